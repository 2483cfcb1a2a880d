# Keeps one throw-away PostgreSQL for the process that holds the other end of our standard input.
# $1: the folder of initdb and postgres.  $2: the cluster's directory, which we own and remove at the end.
# $3: how to reach the primary of a standby; empty for a cluster of its own.
# Orders, one a line: start N, INT (stop in order), QUIT (stop at once); N tells the starts apart, in the file `state`
# too, so that an old answer is never taken for a new one. The end of input, however the holder
# ended, means: stop and leave nothing behind.
bin=$1
dir=$2
primary=$3
keeper=
run=

# A Ctrl-C or a closed terminal ends the holder, and that closes our input; only that ends us.
trap '' HUP INT TERM
umask 077
cd "$dir" || exit 1

say() {
    echo "$1" >state.new && mv state.new state
}

start() {
    run=$1
    rm -f pid
    say "starting $run"
    (
        "$bin/postgres" -D "$dir/data" </dev/null >>log 2>&1 &
        echo $! >pid.new && mv pid.new pid
        wait $!
        rm -f pid
        say "exited $run"
    ) &
    keeper=$!
}

halt() {
    [ -n "$keeper" ] || return 0
    # Signals are repeated because a postmaster that has just been started does not listen to them yet.
    until [ "$(cat state)" = "exited $run" ]; do
        [ -s pid ] && kill -s "$1" "$(cat pid)" 2>/dev/null
        sleep 0.02
    done
    wait "$keeper"
    keeper=
}

initialise() {
    if [ -n "$primary" ]; then
        # With the primary's postgresql.conf come its include of ../settings.conf, which is ours here, and its roles.
        # Where initdb is a link into the server's own folder, this program may have none beside it.
        "$(dirname "$(readlink -f "$bin/initdb")")/pg_basebackup" -D "$dir/data" -d "$primary" -R \
            --checkpoint=fast --no-sync </dev/null >>log 2>&1
    else
        "$bin/initdb" -D "$dir/data" -U imsync --pwfile="$dir/password" --encoding=UTF8 --locale=C \
            --auth-local=trust --auth-host=scram-sha-256 --no-sync --wal-segsize=4 </dev/null >>log 2>&1 &&
            echo "include '../settings.conf'" >>data/postgresql.conf
    fi
}

if initialise; then
    say initialised
else
    say refused
fi

while read -r order number; do
    case $order in
        start) halt INT && start "$number" ;;
        INT | QUIT) halt "$order" ;;
    esac
done

halt QUIT
cd /
rm -rf "$dir"
