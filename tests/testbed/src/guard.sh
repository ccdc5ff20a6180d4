# Runs a program and ends it when the pipe on stdin closes, that is when the process that started this is
# gone, however it went. Until then each line on stdin is the name of a signal for the program. While the file
# FOLDER/keep exists, a closed pipe alone ends nothing.
#
# Where they are set, TESTBED_CGROUP is the folder of the control group that the program runs in, and TESTBED_NOFILE
# how many file descriptors it may have.
#
#   sh -c "$THIS" guard FOLDER NAME LAST_SIGNAL PROGRAM ARGS…
folder=$1 name=$2 last_signal=$3
shift 3
exec 3<&0
(
  if [ -n "$TESTBED_CGROUP" ]; then echo 0 >"$TESTBED_CGROUP/cgroup.procs" || exit 125; fi
  if [ -n "$TESTBED_NOFILE" ]; then ulimit -n "$TESTBED_NOFILE" || exit 125; fi
  exec "$@"
) </dev/null 3<&- &
program=$!
(
  while read -r signal <&3; do kill -s "$signal" "$program"; done
  while [ -e "$folder/keep" ]; do sleep 1; done
  kill -s "$last_signal" "$program"
  kill -s CONT "$program"
  tries=0
  while [ "$tries" -lt 100 ] && kill -0 "$program"; do
    sleep 0.1
    tries=$((tries + 1))
  done
  kill -s KILL "$program"
) 2>/dev/null &
reader=$!
wait "$program"
code=$?
kill "$reader"
rm -f "$folder/running/$name"
exit "$code"
