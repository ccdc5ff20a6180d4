#!/bin/sh
# In the place of crane, for a test: each tag leads to $PUBLISHED; where that is empty, to what was pushed; and where that is
# nothing, crane fails and says $REFUSAL. What is pushed stands in the file $PUSHED.
case $1 in
  digest)
    if [ -n "$PUBLISHED" ]; then
      echo "$PUBLISHED"
    elif [ -s "$PUSHED" ]; then
      echo "$BUILT"
    else
      echo "$REFUSAL" >&2
      exit 1
    fi
    ;;
  manifest) printf '{"manifests":[{"digest":"%s"}]}\n' "$PUBLISHED" ;;
  config) echo '{"architecture":"amd64"}' ;;
  push | index) echo "$1" >>"$PUSHED" ;;
  *) exit 2 ;;
esac
