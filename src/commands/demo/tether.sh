# Runs "$@" for the process that holds the other end of our standard input. A line from there asks it to stop in order
# (SIGTERM, after half a minute SIGKILL). The end of input means that its holder is no more, and nothing is worth
# waiting for: SIGKILL.
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
(
    if read -r _ <&3; then
        kill -TERM "$child"
        tries=0
        while [ "$tries" -lt 300 ]; do
            sleep 0.1
            tries=$((tries + 1))
        done
    fi
    kill -KILL "$child"
) >/dev/null 2>&1 &
watch=$!
wait "$child"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
