# A machine of its own for `ray up`: sshd on loopback addresses, a home folder, /tmp/ray.
#
#   unshare --pid --fork --kill-child --mount-proc --net --mount bash inside.sh PREFIXES STEPS FOLDER
#
# PREFIXES: folders of the Python to use, its environment first, joined by ":". Runs STEPS in
# FOLDER. Nothing of it, `ray stop` and sshd included, is seen from outside.
set -eu
PREFIXES=$1 STEPS=$(realpath "$2") FOLDER=$(realpath "$3")
unset TMPDIR RAY_TMPDIR RAY_ADDRESS RAY_AUTH_MODE RAY_AUTH_TOKEN MLFLOW_TRACKING_URI
mkdir -p /run/sshd /tmp/ray
mount -t tmpfs tmpfs /tmp/ray # notes on clusters, the state file of provider local; and this home:
W=$(mktemp -d /tmp/ray/machine.XXXXXX) # it vanishes with the namespaces
mkdir -p "$W/home/.ssh"
chmod 700 "$W/home" "$W/home/.ssh"
ssh-keygen -q -t ed25519 -N '' -f "$W/home/.ssh/ray_key"
cp "$W/home/.ssh/ray_key.pub" "$W/home/.ssh/authorized_keys"
ssh-keygen -q -t ed25519 -N '' -f "$W/hostkey"
cat > "$W/sshd_config" <<END
Port 22
ListenAddress 0.0.0.0
HostKey $W/hostkey
PidFile $W/sshd.pid
AuthorizedKeysFile %h/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
END
printf 'export PATH=%s/bin:$PATH RAY_USAGE_STATS_ENABLED=0\n' "${PREFIXES%%:*}" |
    tee "$W/home/.bashrc" > "$W/home/.bash_profile"
ip link set lo up
H=$(getent passwd root | cut -d: -f6)
for prefix in ${PREFIXES//:/ } "$FOLDER"; do # what lies in the real home stays in sight
    case $prefix in
    "$H"/*)
        mkdir -p "$W/home/${prefix#"$H"/}"
        mount --rbind "$prefix" "$W/home/${prefix#"$H"/}"
        ;;
    esac
done
mount --rbind "$W/home" "$H"
export HOME=$H
. "$H/.bashrc"
/usr/sbin/sshd -f "$W/sshd_config" -E "$W/sshd.log"
sleep 0.5
cd "$FOLDER"
bash "$STEPS"
