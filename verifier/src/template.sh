#!/bin/sh
# A VerifyService to begin with: is there somebody who answers on a TCP port?
#
#   MyService setup                       prints what of the service this server has, as JSON; changes nothing
#   MyService verify --host H [--json] [--instance I] [--set KEY=VALUE]… [--role R] [--deadline SECONDS]
#                                         exercises it as a client would; exit code 0 ok, 1 slow, 2 unacceptable, 3 unknown
#
# Put it into /etc/atlas/verify.d (owner root, mode 755) on PRI; the next SyncCycle brings it to the secondaries. 'VerifierControl check' tries it.
set -eu
mode=${1:-}
[ $# -gt 0 ] && shift
host= json= deadline=10 port=22
for word in "$@"; do
    case $word in
    --json) json=yes ;;
    --set=port=*) port=${word#--set=port=} ;;
    --deadline=*) deadline=${word#--deadline=} ;;
    --host) next=host; continue ;;
    *) [ "${next:-}" = host ] && host=$word ;;
    esac
    next=
done

# Prints the answer in either form, and ends: verdict, exit code, sentence.
answer() {
    if [ "$json" ]; then
        printf '{"format":1,"verdict":"%s","summary":"%s"}\n' "$1" "$3"
    else
        printf 'MYSERVICE %s: %s\n' "$1" "$3"
    fi
    exit "$2"
}

case $mode in
setup)
    # What is there, by the service's real configuration. "options" come back as --set KEY=VALUE; "paths" are synchronised; "place" is
    # test data: [{"path": "/srv/x/.atlas-verify", "content": "…", "mode": 420}].
    echo '{"format":1,"instances":[{"name":"22","options":{"port":"22"}}],"paths":[],"place":[],"problems":[]}'
    ;;
verify)
    # A client with a time limit below the deadline: it must answer also where nobody does.
    if timeout "$((deadline > 1 ? deadline - 1 : 1))" bash -c "exec 3<>/dev/tcp/$host/$port" 2>/dev/null; then
        answer ok 0 "somebody answers on port $port"
    fi
    answer unacceptable 2 "nobody answers on port $port"
    ;;
*)
    echo "called wrongly: setup or verify" >&2
    exit 3
    ;;
esac
