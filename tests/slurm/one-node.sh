#!/bin/bash
# A SLURM cluster of one node on loopback, as root and without systemd, with accounting.
# Its keys, database, ports and process files are its own, below $FOLDER. Only slurm.conf must lie where SLURM looks
# by default, because jobs lose SLURM_CONF on their way; on a machine that has another one it refuses to start.
#
#   one-node.sh start    start what does not run, wait until the node is idle; says "started" or "running"
#   one-node.sh stop     cancel all jobs, end the daemons
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # daemons lie there, and so does runuser

FOLDER=${CUBEFLOW_SLURM_FOLDER:-/run/cubeflow-slurm}
PORT=${CUBEFLOW_SLURM_PORT:-26817}            # slurmctld; the others follow
HOST=$(hostname -s)
CPUS=$(($(nproc) + 2)) # more than there are: jobs that only wait must not keep others from running
MEMORY=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 500))
DEFAULT=/etc/slurm/slurm.conf
export SLURM_CONF=$FOLDER/slurm.conf

runs() {    # runs NAME: does the daemon of that process file live?
    [ -s "$FOLDER/$1.pid" ] && kill -0 "$(cat "$FOLDER/$1.pid")" 2>/dev/null
}

wait_for() {    # wait_for SECONDS COMMAND...: until the command succeeds
    local last=$((SECONDS + $1))
    shift
    while [ "$SECONDS" -lt "$last" ]; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    echo "one-node.sh: gave up waiting for: $*; see $FOLDER/*.log" >&2
    return 1
}

configure() {
    if [ -e "$DEFAULT" ] && [ "$(readlink "$DEFAULT")" != "$SLURM_CONF" ]; then
        echo "one-node.sh: this machine has a SLURM of its own: $DEFAULT" >&2
        exit 3
    fi
    mkdir -p "$FOLDER"/{munge,mysql/tmp,state,spool}
    chown munge:munge "$FOLDER/munge"
    chown mysql:mysql "$FOLDER/mysql" "$FOLDER/mysql/tmp"
    chmod 755 "$FOLDER" "$FOLDER/munge"
    if [ ! -s "$FOLDER/munge/key" ]; then
        (umask 077 && head -c 1024 /dev/urandom >"$FOLDER/munge/key")
        chown munge:munge "$FOLDER/munge/key"
    fi
    cat >"$FOLDER/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge/socket
DbdHost=localhost
DbdPort=$((PORT + 2))
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 3))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile=$FOLDER/slurmdbd.log
PidFile=$FOLDER/slurmdbd.pid
END
    chmod 600 "$FOLDER/slurmdbd.conf"
    # OverMemoryKill looks once a second and ends a step above its memory: it needs no control groups, which containers often refuse.
    cat >"$SLURM_CONF" <<END
ClusterName=cubeflow
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge/socket
CredType=cred/munge
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmdParameters=config_overrides
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
MinJobAge=300
KillWait=2
OverTimeLimit=0
AccountingStorageType=accounting_storage/slurmdbd
AccountingStoreFlags=job_comment
AccountingStorageHost=localhost
AccountingStoragePort=$((PORT + 2))
AccountingStoragePass=$FOLDER/munge/socket
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEMORY State=UNKNOWN
PartitionName=main Nodes=$HOST Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
    mkdir -p /etc/slurm
    ln -sf "$SLURM_CONF" "$DEFAULT"
}

sql() {
    mariadb --no-defaults --socket="$FOLDER/mysql/socket" "$@"
}

start_database() {
    if runs mariadbd; then return; fi
    local -x TMPDIR=$FOLDER/mysql/tmp # the caller's may be closed to the database
    if [ ! -d "$FOLDER/mysql/data/mysql" ]; then
        mariadb-install-db --no-defaults --user=mysql --datadir="$FOLDER/mysql/data" --skip-test-db \
            --auth-root-authentication-method=normal >"$FOLDER/mariadb.log" 2>&1 ||
            { cat "$FOLDER/mariadb.log" >&2; return 1; }
    fi
    setsid mariadbd --no-defaults --user=mysql --datadir="$FOLDER/mysql/data" --socket="$FOLDER/mysql/socket" \
        --bind-address=127.0.0.1 --port=$((PORT + 3)) --pid-file="$FOLDER/mysql/pid" --skip-log-bin \
        --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 >>"$FOLDER/mariadb.log" 2>&1 </dev/null &
    echo $! >"$FOLDER/mariadbd.pid"
    wait_for 60 sql -e "SELECT 1"
    sql -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
            CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
            CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurm';
            GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1', 'slurm'@'localhost';"
}

start_munge() {
    if runs munged; then return; fi
    runuser -u munge -- munged --socket="$FOLDER/munge/socket" --key-file="$FOLDER/munge/key" --seed-file="$FOLDER/munge/seed" \
        --log-file="$FOLDER/munge/log" --pid-file="$FOLDER/munge/pid" --num-threads=2
    wait_for 10 munge --socket="$FOLDER/munge/socket" --no-input
    ln -sf munge/pid "$FOLDER/munged.pid"
}

start_accounting() {
    if runs slurmdbd; then return; fi
    slurmdbd
    wait_for 60 sacctmgr --noheader list cluster
    sacctmgr --immediate --quiet add cluster cubeflow >/dev/null || true
    sacctmgr --immediate --quiet add account cubeflow Description=tests Organization=tests >/dev/null || true
    sacctmgr --immediate --quiet add user root Account=cubeflow DefaultAccount=cubeflow >/dev/null || true
}

idle() {
    sinfo --noheader --format=%T | grep -qE 'idle|mixed|alloc'
}

start() {
    local word=started
    if runs slurmctld && runs slurmd && idle; then
        word=running
    else
        configure
        start_munge
        start_database
        start_accounting
        runs slurmctld || slurmctld
        runs slurmd || slurmd
        wait_for 60 idle
    fi
    echo "$word"
}

end() {    # end NAME: ask the daemon to end, and wait until it has
    if ! runs "$1"; then return 0; fi
    local pid
    pid=$(cat "$FOLDER/$1.pid")
    kill "$pid"
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$pid"
}

stop() {
    if runs slurmctld; then timeout 10 scancel --user=root || true; fi
    for daemon in slurmd slurmctld slurmdbd mariadbd munged; do end "$daemon"; done
    if [ "$(readlink "$DEFAULT")" = "$SLURM_CONF" ]; then rm -f "$DEFAULT"; fi
    rm -rf "$FOLDER"
}

case ${1:-} in
    start | stop) "$1" ;;
    *) sed -n '2,7s/^# \?//p' "$0" >&2; exit 2 ;;
esac
