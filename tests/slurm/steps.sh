# What a user of Slurm does: a study on two nodes as one cluster, put back once into the queue, and
# a study by three independent jobs of which one is killed.
set -u
say() { echo "$@" >> out/steps; }
wait_until() { # COMMAND... succeeds, within ten minutes
    local end=$((SECONDS + 600))
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "waited for: $*"; exit 1; }
        sleep 0.2
    done
}
is_over() { [ -z "$(squeue -h -j "$1" 2> /dev/null)" ]; }
is_at_work() { compgen -G "$1" > /dev/null; }
show() { scontrol show job "$1" | grep -o "$2=[A-Z0-9]*"; }

# One cluster of two nodes. The signal that comes before a time limit is sent by hand.
job=$(sbatch --parsable cluster.sbatch studies/x.yaml)
wait_until is_at_work "store/pretrain/*/journal*"
say permissions "$(stat -c %a ".slurm-$job/token")"
scancel --batch --signal=TERM "$job"
wait_until is_over "$job"
say restarts "$(show "$job" Restarts)"
say state "$(show "$job" JobState)"

# Three jobs, one store. One is killed; the others take what it was at work on.
job=$(sbatch --parsable --array=1-3 array.sbatch studies/y.yaml)
for task in 1 2 3; do
    wait_until grep -qs "^running" "mae-ablation-$job-$task.log"
done
scancel --signal=KILL --full "${job}_2"
wait_until is_over "$job"
for task in 1 2 3; do
    say "task-$task" "$(show "${job}_$task" JobState)"
done
