# A Slurm of three nodes on this machine, to run STEPS in FOLDER with.
#
#   unshare --pid --fork --kill-child --mount-proc --net --mount --uts bash cluster.sh STEPS FOLDER
#
# Each node has an address, a hostname, processes and a /tmp of its own, so that Ray's port and
# `ray stop` of one node do not meet those of another. Nothing of it is seen from outside.
set -eu
STEPS=$(realpath "$1") FOLDER=$(realpath "$2")
unset TMPDIR RAY_TMPDIR RAY_ADDRESS RAY_AUTH_MODE RAY_AUTH_TOKEN MLFLOW_TRACKING_URI
W=$FOLDER/slurm
mkdir -p "$W/state"
hostname control
cp /etc/hosts "$W/hosts"
ip link set lo up
mount -t tmpfs tmpfs /run # names of networks
ip link add net0 type bridge
ip addr add 10.77.0.1/24 dev net0
ip link set net0 up
echo "10.77.0.1 control" >> "$W/hosts"
for n in 1 2 3; do echo "10.77.0.1$n node$n" >> "$W/hosts"; done
mount --bind "$W/hosts" /etc/hosts

cat > "$W/slurm.conf" <<END
ClusterName=toy
SlurmctldHost=control(10.77.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation=$W/state
SlurmctldPidFile=$W/slurmctld.pid
SlurmctldLogFile=$W/slurmctld.log
SlurmdSpoolDir=$W/spool-%n
SlurmdPidFile=$W/%n.pid
SlurmdLogFile=$W/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,requeue_delay=0
NodeName=node[1-3] CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$W/slurm.conf
slurmctld -i -c
for n in 1 2 3; do
    mkdir -p "$W/spool-node$n"
    ip netns add "node$n"
    ip link add "to$n" type veth peer name eth0 netns "node$n"
    ip link set "to$n" master net0 up
    ip -n "node$n" link set lo up
    ip -n "node$n" addr add "10.77.0.1$n/24" dev eth0
    ip -n "node$n" link set eth0 up
    nsenter --net="/run/netns/node$n" unshare --mount --uts --pid --fork --kill-child --mount-proc bash -c "
        hostname node$n
        mount -t tmpfs tmpfs /tmp
        exec slurmd -D
    " > "$W/node$n.out" 2>&1 &
done
until [ "$(sinfo -h -t idle -o %D)" = 3 ]; do sleep 0.5; done
cd "$FOLDER"
bash "$STEPS"
