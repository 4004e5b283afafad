#!/usr/bin/env bash
# Runs a command, again where it was pre-empted (exit code 143) or lost another process (134):
# launch/restart.sh vos-train --config=... --workdir=gs://BUCKET/runs/a
# RESTARTS (20) is how often, PAUSE_S (10) how long after, CODES ("134 143") on which exit codes.
set -u
refuse() {
  echo "error: $1" >&2
  exit 2
}
(($#)) || refuse 'no command; give one, as launch/restart.sh vos-train --config=...'
[[ ${RESTARTS:-0} =~ ^[0-9]+$ ]] || refuse "RESTARTS is '$RESTARTS'; needed: a whole number"
[[ ${PAUSE_S:-0} =~ ^[0-9]+([.][0-9]+)?$ ]] || refuse "PAUSE_S is '$PAUSE_S'; needed: seconds"
[[ ${CODES:-0} =~ ^[0-9\ ]+$ ]] || refuse "CODES is '$CODES'; needed: exit codes, as '134 143'"
stopped=''
child=''
# What ends this script is passed on, and ends the loop: the machine is going away.
trap 'stopped=1; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null' TERM INT
for ((left = 10#${RESTARTS:-20}; ; left--)); do
  "$@" &
  child=$!
  wait "$child"
  code=$?
  while kill -0 "$child" 2>/dev/null; do # a signal has ended the waiting, not the command
    wait "$child"
    code=$?
  done
  [[ -z $stopped && $left -gt 0 && " ${CODES:-134 143} " == *" $code "* ]] || exit "$code"
  echo "exit code $code: again in ${PAUSE_S:-10} s, $left restarts left" >&2
  sleep "${PAUSE_S:-10}" &
  child=$!
  wait "$child"
  [[ -z $stopped ]] || exit "$code"
done
