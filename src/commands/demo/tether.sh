# Runs "$@" for the process that holds the other end of our standard input, and stops it (SIGTERM, after half a minute
# SIGKILL) when that end closes, however its holder ended.
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
(
    read -r _ <&3
    kill -TERM "$child"
    tries=0
    while [ "$tries" -lt 300 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -KILL "$child"
) >/dev/null 2>&1 &
watch=$!
wait "$child"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
