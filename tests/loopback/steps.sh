# The user's two commands, the second one again, the end: output, exit status and seconds of each.
set -u
mkdir -p out
step() {
    local name=$1 began=$SECONDS
    shift
    "$@" > "out/$name.txt" 2>&1
    echo "$name $? $((SECONDS - began))" >> out/steps.txt
}
export RAY_UP_enable_autoscaler_v2=0 # the newer one starts no worker for provider local
RAY_AUTH_MODE=token ray get-auth-token --generate > /dev/null 2>&1
step up ray up -y cluster.yaml
step run python -m platform.run studies/x.yaml
step again python -m platform.run studies/x.yaml
step down ray down -y cluster.yaml
sleep 2
ps -eo args | grep -E "raylet|gcs_server|ray::|ssh -tt|ray dashboard" | grep -v grep > out/left.txt
step gone python -m platform.run studies/x.yaml --cluster cluster.yaml
