#!/bin/bash
# Record what OAR's commands print: NAME.cmd, .out, .err (none: empty) and .rc of each call.
#   samples.sh [FOLDER]       as root, with the bed up and nothing else running on it: the server and the database are stopped at
#                             the end, and started again
set -u
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/samples}
user=${LAB_USER:-labuser}
state=${LAB_STATE:-/var/lib/lab}/oar
mkdir -p "$out"
room=$(mktemp -d /tmp/oar-samples.XXXXXX)
mkdir "$room/work" "$room/said" "$room/work/0123456789abcdef0123456789abcdef"
cat >"$room/library" <<'EOL'
cd "$1/work" || exit 1
said=$1/said
record() { local name=$1; shift; timeout 60 "$@" >"$said/$name.out" 2>"$said/$name.err" </dev/null; echo $? >"$said/$name.rc"; printf '%s\n' "$*" >"$said/$name.cmd"; }
until_state() { local n; for n in $(seq 1 240); do oarstat -s -j "$(id_of "submit-$1")" | grep -q "$2" && return; sleep 0.5; done; echo "$1 is not $2" >&2; }
id_of() { sed -n 's/^OAR_JOB_ID= *\([0-9]*\)/\1/p' "$said/$1.out" | sed -n 1p; }
EOL
cat "$room/library" - >"$room/first" <<'EOJ'
printf '#!/bin/sh\n#OAR -n fromscript\n#OAR -l /resource_id=1,walltime=0:2:0\nexit 7\n' >job.sh
chmod 755 job.sh
one=/resource_id=1,walltime=0:3:0
record version oarsub --version
record stat-empty oarstat
record stat-empty-json oarstat -J
record submit-success oarsub -n ok -l $one 'echo out; exit 0'
record submit-exit3 oarsub -n ex3 -l $one 'exit 3'
record submit-signal9 oarsub -n sig9 -l $one 'kill -9 $$'
record submit-core oarsub -n core -l $one 'ulimit -c unlimited; kill -SEGV $$'
record submit-walltime oarsub -n wall -l /resource_id=1,walltime=0:0:8 'sleep 100'
record submit-held oarsub -n held --hold -l $one 'sleep 100'
record submit-array oarsub -n arr -l $one --array 3 'sleep 12; exit $OAR_ARRAY_INDEX'
record submit-run oarsub -n run -l $one 'sleep 100'
record submit-cancelme oarsub -n cancelme -l $one 'sleep 100'
record submit-script oarsub -S ./job.sh
record submit-folder oarsub -n folder -l $one -d "$PWD/0123456789abcdef0123456789abcdef" 'sleep 1'
record submit-nofolder oarsub -n nofolder -l $one -d "$PWD/nowhere" 'sleep 1'
record submit-after oarsub -n after -l $one -a "$(id_of submit-run)" 'sleep 1'
record submit-postpone oarsub -n postpone -l $one -t "postpone=2030-01-01 00:00:00" 'sleep 1'
record submit-deadline oarsub -n deadline -l $one -t "deadline=2020-01-01 00:00:00" 'sleep 1'
record submit-badres oarsub -l /nosuch=1 true
record submit-toobig oarsub -l /resource_id=500 true
record submit-badqueue oarsub -q nosuch true
record submit-adminqueue oarsub -q admin true
record submit-badtype oarsub -t nosuch true
record submit-badopt oarsub --no-such-option true
record submit-badproperty oarsub -p "nosuch = 1" true
record submit-longname oarsub -n "$(printf '%0150d' 1)" true
until_state run Running
until_state cancelme Running
until_state array Running
record stat oarstat
record stat-json oarstat -J
record stat-full oarstat -f
record stat-full-json oarstat -f -J
record stat-mine oarstat -f -J -u
record stat-one oarstat -j "$(id_of submit-run)"
record stat-one-json oarstat -f -J -j "$(id_of submit-run)"
record stat-state oarstat -s -j "$(id_of submit-run)"
record stat-states oarstat -s -j "$(id_of submit-run)" -j "$(id_of submit-held)" -j 999999
record stat-state-json oarstat -s -J -j "$(id_of submit-run)"
record stat-array oarstat --array "$(id_of submit-array)" -J
record stat-unknown oarstat -j 999999
record stat-unknown-json oarstat -J -j 999999
record stat-sql-unknown oarstat -f -J --sql "job_id = 999999"
record stat-sql-wrong oarstat -f -J --sql "nosuch = 1"
record stat-token oarstat -f -J --sql "launching_directory LIKE '%/0123456789abcdef0123456789abcdef'"
record nodes oarnodes
record nodes-json oarnodes -J --sql "resource_id IN (SELECT MIN(resource_id) FROM resources)"
record hold-held oarhold "$(id_of submit-held)"
record hold-running oarhold "$(id_of submit-run)"
record hold-unknown oarhold 999999
record hold-postponed oarhold "$(id_of submit-postpone)"
record suspend-running oarhold -r "$(id_of submit-run)"
until_state postpone Hold
record resume-held oarresume "$(id_of submit-postpone)"
record resume-running oarresume "$(id_of submit-run)"
record signal-run oardel -s CONT "$(id_of submit-run)"
record signal-held oardel -s CONT "$(id_of submit-held)"
record signal-unknown oardel -s CONT 999999
record del-running oardel "$(id_of submit-cancelme)"
record del-held oardel "$(id_of submit-held)"
record del-again oardel "$(id_of submit-held)"
record del-unknown oardel 999999
record del-done oardel "$(id_of submit-success)"
record del-mixed oardel "$(id_of submit-postpone)" 999999 "$(id_of submit-exit3)"
for job in success exit3 signal9 core array script folder; do until_state $job Terminated; done
for job in walltime held cancelme nofolder deadline; do until_state $job Error; done
sleep 2
for job in success exit3 signal9 core walltime held array run cancelme script folder nofolder deadline; do
    id=$(id_of submit-$job)
    record "done-$job-full" oarstat -f -j "$id"
    record "done-$job-json" oarstat -f -J -j "$id"
    record "done-$job-state" oarstat -s -j "$id"
done
array=$(id_of submit-array)
record done-array-sql oarstat -f -J --sql "job_id IN (SELECT job_id FROM jobs WHERE job_id IN ($array,$((array + 1))) UNION SELECT job_id FROM jobs WHERE resubmit_job_id <> 0 AND array_id IN (SELECT array_id FROM jobs WHERE job_id IN ($array,$((array + 1)))) AND array_id + array_index - 1 IN ($array,$((array + 1))))"
# A besteffort job that must make room is sent again: a new job in the place of the first.
record submit-besteffort oarsub -n best -t besteffort -t idempotent -p "yard = 8" -l /resource_id=1,walltime=0:5:0 'sleep 200'
best=$(id_of submit-besteffort)
until_state besteffort Running
record submit-urgent oarsub -n urgent -p "yard = 8" -l /resource_id=1,walltime=0:1:0 'sleep 5'
until_state besteffort Error
until_state urgent Terminated
sleep 3
record rerun oarstat -f -J --sql "array_id = $best"
oardel --array "$best" >/dev/null 2>&1
record del-many oardel "$(id_of submit-run)" "$(id_of submit-after)"
EOJ
cat "$room/library" - >"$room/second" <<'EOJ'
record away-submit oarsub -n away -l /resource_id=1,walltime=0:3:0 'sleep 1'
record away-hold oarhold "$(id_of away-submit)"
record away-del oardel "$(id_of away-submit)"
record away-stat oarstat -J -j "$(id_of away-submit)"
EOJ
cat "$room/library" - >"$room/third" <<'EOJ'
record nodb-stat oarstat -f -J --sql "job_id = 1"
EOJ
chown -R "$user" "$room"
chmod -R a+rX "$room"
as_user() { runuser -u "$user" -- env HOME="$(getent passwd "$user" | cut -d: -f6)" TZ= bash "$room/$1" "$room"; }
as_user first
"$here/down.sh" --server
as_user second
"$here/down.sh"
as_user third # the others go on trying for minutes, and cannot be ended by their user
"$here/up.sh"
(cd / && oarsub -l /resource_id=1 true) >"$room/said/submit-as-root.out" 2>"$room/said/submit-as-root.err"
echo $? >"$room/said/submit-as-root.rc"
echo 'oarsub -l /resource_id=1 true' >"$room/said/submit-as-root.cmd"
cp "$room"/said/* "$out"/
find "$out" -name '*.err' -empty -delete
grep -vE '^\s*(#|$)' /etc/oar/oar.conf >"$out/oar.conf.txt"
rm -rf "$room"
