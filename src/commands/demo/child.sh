# Runs "$@" as a child of this shell. Standard input is the stop pipe, and the demo holds its other end. A line on the pipe
# means: stop gracefully (SIGTERM, and SIGKILL after 30 seconds). End of input means that the demo process no longer exists,
# so the child is killed at once (SIGKILL).
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
