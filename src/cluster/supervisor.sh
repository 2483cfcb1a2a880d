# Runs one temporary PostgreSQL server for the process that holds the other end of standard input, the owner.
#
# $1: the directory of initdb and postgres.
# $2: the cluster's directory. This script removes it at the end.
# $3: the data directory of the stopped primary if the server is a standby; otherwise empty.
# $4: the connection string of that primary, without single quotes.
#
# Commands, one per line: "start N"; "INT", a fast shutdown; "QUIT", an immediate shutdown. N is the number of the
# start. It is written to the file `state` too, so that the owner does not mistake the state after an earlier start for
# the current one. The end of input means that the owner has ended: stop the server and remove the directory.
bin=$1
dir=$2
primary=$3
primary_conninfo=$4
watcher=
run=

# A Ctrl-C or a closed terminal ends the owner, which closes the input. Only the end of input ends this script.
trap '' HUP INT TERM
umask 077
cd "$dir" || exit 1

write_state() {
    echo "$1" >state.new && mv state.new state
}

start_server() {
    run=$1
    rm -f pid
    write_state "starting $run"
    (
        "$bin/postgres" -D "$dir/data" </dev/null >>log 2>&1 &
        echo $! >pid.new && mv pid.new pid
        wait $!
        rm -f pid
        write_state "exited $run"
    ) &
    watcher=$!
}

stop_server() {
    [ -n "$watcher" ] || return 0
    # The signal is repeated, because a postmaster that has just been started does not handle signals yet.
    until [ "$(cat state)" = "exited $run" ]; do
        [ -s pid ] && kill -s "$1" "$(cat pid)" 2>/dev/null
        sleep 0.02
    done
    wait "$watcher"
    watcher=
}

initialise() {
    if [ -n "$primary" ]; then
        # The copy has the roles of the primary and its postgresql.conf. That file includes ../settings.conf, which is
        # the standby's own file here.
        cp -R "$primary" data >>log 2>&1 &&
            echo "primary_conninfo = '$primary_conninfo'" >>data/postgresql.auto.conf &&
            : >data/standby.signal
    else
        "$bin/initdb" -D "$dir/data" -U imsync --pwfile="$dir/password" --encoding=UTF8 --locale=C \
            --auth-local=trust --auth-host=scram-sha-256 --no-sync --wal-segsize=4 </dev/null >>log 2>&1 &&
            echo "include '../settings.conf'" >>data/postgresql.conf
    fi
}

if initialise; then
    write_state initialised
else
    write_state failed
fi

while read -r command number; do
    case $command in
        start) stop_server INT && start_server "$number" ;;
        INT | QUIT) stop_server "$command" ;;
    esac
done

stop_server QUIT
cd /
rm -rf "$dir"
