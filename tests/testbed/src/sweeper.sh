# Removes FOLDER when the pipe on stdin has closed, FOLDER/keep is gone and the programs of all guards have
# ended (each removes its file in FOLDER/running).
#
#   sh -c "$THIS" sweeper FOLDER
folder=$1
while read -r _; do :; done
while [ -e "$folder/keep" ]; do sleep 1; done
tries=0
while [ "$tries" -lt 150 ] && [ -n "$(ls "$folder/running" 2>/dev/null)" ]; do
  sleep 0.1
  tries=$((tries + 1))
done
rm -rf "$folder"
