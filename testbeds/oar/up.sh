#!/bin/bash
# Start a one-host OAR (Debian's 2.5) without systemd, on loopback only: a PostgreSQL of its own, the server (Almighty), and the
# sshd through which OAR reaches its nodes. Idempotent; as root; all packages come by apt.
#
#   up.sh            install what is missing, configure, start, check   (exit 0 = usable)
#
# The machine is several "nodes" to OAR: addresses of the loopback network.
set -euo pipefail
state=${LAB_STATE:-/var/lib/lab}/oar
user=${LAB_USER:-labuser}
pgport=${LAB_OAR_PGPORT:-25432}
log() { printf '[oar] %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }

[ "$(id -u)" = 0 ] || die "needs root"
exec 9>/run/lab-oar.lock
flock -w 300 9 || die "another up.sh or down.sh is running"
id "$user" >/dev/null 2>&1 || useradd -m -s /bin/bash "$user" || id "$user" >/dev/null

# --- packages ---------------------------------------------------------------------------------------------------------
packages="oar-server oar-server-pgsql oar-user oar-user-pgsql oar-node postgresql openssh-server libjson-perl procps iproute2"
need=
for p in $packages; do
    dpkg -s "$p" 2>/dev/null | grep -q '^Status: install ok installed' || need="$need $p"
done
if [ -n "$need" ]; then
    log "installing:$need"
    made=
    [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made=1; }
    failed=
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=900 install -y -q --no-install-recommends $need >/var/log/lab-oar-apt.log 2>&1 || failed=1
    [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d
    [ -z "$failed" ] || die "apt-get failed: $(tail -n 20 /var/log/lab-oar-apt.log)"
fi

# --- settings ---------------------------------------------------------------------------------------------------------
pgbin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
mkdir -p "$state/pg" "$state/run"
chown postgres "$state/pg"
chmod 755 "$state" "$state/run"
alive() { [ -s "$1" ] && kill -0 "$(head -n 1 "$1")" 2>/dev/null; }
open_port() { (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
set_conf() { # name value
    if grep -qE "^#?$1=" /etc/oar/oar.conf; then
        sed -i -E "0,/^#?$1=.*/s|^#?$1=.*|$1=\"$2\"|" /etc/oar/oar.conf
    else
        printf '%s="%s"\n' "$1" "$2" >>/etc/oar/oar.conf
    fi
}
before=$(cat /etc/oar/oar.conf /usr/lib/oar/Almighty | md5sum)
set_conf DB_TYPE Pg
set_conf DB_HOSTNAME 127.0.0.1
set_conf DB_PORT "$pgport"
set_conf DB_BASE_PASSWD oar
set_conf DB_BASE_PASSWD_RO oar_ro
set_conf SERVER_HOSTNAME localhost
set_conf LOG_LEVEL 2
# Quick rounds: a second between two of them, and between a job's end and the next start in its place (the least there is).
set_conf SCHEDULER_JOB_SECURITY_TIME 1
set_conf SCHEDULER_MIN_TIME_BETWEEN_2_CALLS 1
set_conf SCHEDULER_GANTT_HOLE_MINIMUM_TIME 1
set_conf SCHEDULER_TIMEOUT 60
# All jobs here are one user's: of how many of them a round takes care, and how many are started at a time (each is a Perl program
# that locks tables; more of them at once start no job sooner).
set_conf SCHEDULER_FAIRSHARING_MAX_JOB_PER_USER 500
set_conf MAX_CONCURRENT_JOBS_STARTING_OR_TERMINATING 5
set_conf FINAUD_FREQUENCY 0
set_conf PINGCHECKER_GENERIC_COMMAND /bin/true # prints no host: all are well
# cpusets need a cgroup tree of OAR's own, which a container has not
sed -i -E 's/^(JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD|JOB_RESOURCE_MANAGER_FILE|CPUSET_PATH|PINGCHECKER_SENTINELLE_SCRIPT_COMMAND)=/#\1=/' /etc/oar/oar.conf
# Two things that no setting changes: the server listens on all addresses, and looks every ten seconds at limits and at what waits.
sed -i -E -e 's/INET->new\(LocalPort=> /INET->new(LocalAddr=> "127.0.0.1", LocalPort=> /' \
    -e 's/^(my \$read_commands_timeout =) [0-9]+;/\1 1;/' -e 's/^(my \$villainstimeout =) [0-9]+;/\1 4;/' /usr/lib/oar/Almighty
after=$(cat /etc/oar/oar.conf /usr/lib/oar/Almighty | md5sum)
if [ "$before" != "$after" ] && open_port 6666; then
    log "settings changed: restarting the server"
    "$(dirname "$0")/down.sh" --server 9>&-
fi

# --- database ---------------------------------------------------------------------------------------------------------
if [ ! -s "$state/pg/data/PG_VERSION" ]; then
    (cd / && runuser -u postgres -- "$pgbin/initdb" -D "$state/pg/data" -A trust -E UTF8 --locale=C >/dev/null)
fi
if ! alive "$state/pg/data/postmaster.pid"; then
    rm -f "$state/pg/data/postmaster.pid"
    (cd / && runuser -u postgres -- "$pgbin/pg_ctl" -D "$state/pg/data" -w -t 60 -l "$state/pg/log" \
        -o "-p $pgport -c listen_addresses=127.0.0.1 -c unix_socket_directories=$state/pg -c fsync=off -c synchronous_commit=off -c full_page_writes=off" start >/dev/null 9>&-)
fi
sql() { (cd / && runuser -u postgres -- psql -q -h "$state/pg" -p "$pgport" "$@"); }
if [ "$(sql -Atc "select count(*) from pg_database where datname = 'oar'" postgres)" = 0 ]; then
    sql -c "create role oar login password 'oar'" -c "create role oar_ro login password 'oar_ro'" -c "create database oar owner oar" postgres
    for f in pg_structure pg_default_admission_rules default_data; do
        PGPASSWORD=oar psql -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$pgport" -U oar -f "/usr/lib/oar/database/$f.sql" oar >/dev/null
    done
    PGPASSWORD=oar psql -q -h 127.0.0.1 -p "$pgport" -U oar -c "grant select on all tables in schema public to oar_ro" oar
fi

# --- the nodes' sshd, for the user oar alone ----------------------------------------------------------------------------
mkdir -p /run/sshd /run/oar
chown oar /run/oar
{
    grep -vE '^(UsePrivilegeSeparation|KeepAlive|Port|MaxStartups)' /etc/oar/sshd_config
    printf 'Port 6667\nMaxStartups 200\nPidFile %s/run/sshd.pid\n' "$state"
    printf 'ListenAddress 127.0.0.%s\n' 1 2 3 11 12 13 14 15 16 17 18
} >"$state/sshd_config.new"
mv "$state/sshd_config.new" "$state/sshd_config"
alive "$state/run/sshd.pid" || (cd / && OAR_KEY=1 setsid /usr/sbin/sshd -f "$state/sshd_config" 9>&-)

# --- server -----------------------------------------------------------------------------------------------------------
open_port 6666 || (cd / && /usr/sbin/oar-server </dev/null >>"$state/run/server.log" 2>&1 9>&-)
for _ in $(seq 1 120); do open_port 6666 && break; sleep 0.25; done
# The server and its database must keep up on a machine that tests keep busy; jobs come through sshd, and get its priority.
for pid in $(head -n 1 "$state/pg/data/postmaster.pid") $(pgrep -u oar -f Almighty); do
    renice -n -10 -p "$pid" >/dev/null 2>&1 || true
done
open_port 6666 || die "the server does not listen: $(tail -n 5 /var/log/oar.log)"

# --- resources ----------------------------------------------------------------------------------------------------------
# Rows of the table are the cores of "nodes" that are all this machine. One core each on the nodes of the yards, where a test that
# needs a job to wait for another disturbs nobody: jobs come there only with -p yard=N.
properties=$(oarproperty -l 2>/dev/null)
for p in host cpu core gpu yard; do
    grep -qx "$p" <<<"$properties" && continue
    case $p in host) oarproperty -c -a "$p" >/dev/null ;; *) oarproperty -a "$p" >/dev/null ;; esac
done
if [ "$(sql -Atc 'select count(*) from resources' oar)" = 0 ]; then
    sql oar <<'SQL'
alter table resources alter column yard set default 0;
insert into resources (network_address, host, state, cpu, core, gpu, yard)
    select '127.0.0.1', '127.0.0.1', 'Alive', 1, n, null, 0 from generate_series(1, 32) n;
insert into resources (network_address, host, state, cpu, core, gpu, yard)
    select '127.0.0.2', '127.0.0.2', 'Alive', 2, 32 + n, (n + 1) / 2, 0 from generate_series(1, 8) n;
insert into resources (network_address, host, state, cpu, core, gpu, yard)
    select '127.0.0.3', '127.0.0.3', 'Alive', 3, 40 + n, null, 0 from generate_series(1, 8) n;
insert into resources (network_address, host, state, cpu, core, gpu, yard)
    select '127.0.0.' || (10 + n), '127.0.0.' || (10 + n), 'Alive', 10 + n, 50 + n, null, n from generate_series(1, 8) n;
insert into admission_rules (priority, enabled, rule) values (30, 'YES',
    '$jobproperties_applied_after_validation .= " AND yard = 0" unless $jobproperties =~ /yard/;');
SQL
fi
sql -c "update resources set state = 'Alive', next_state = 'UnChanged', finaud_decision = 'NO' where state <> 'Alive'" oar
oarnotify Term >/dev/null 2>&1 || true

outside=$(ss -Hltn '( sport = :6666 or sport = :6667 )' 2>/dev/null | awk '$4 !~ /^127\./ { print $4 }')
[ -z "$outside" ] || die "listening outside loopback: $outside"
log "up: $(oarstat --version 2>/dev/null | sed -n 1p), $(sql -Atc "select count(*) from resources" oar) cores  ($SECONDS s)"
