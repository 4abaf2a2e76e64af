#!/bin/bash
# A run of any length as a Slurm job that is queued again until it is done:  sbatch --export=ALL,TEXT=big.txt slurm.sh
#SBATCH --job-name=tinygrad-gru
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM two minutes before the time is up, to this script alone, which passes it on (see `trap`).
#SBATCH --signal=B:TERM@120

TEXT=${TEXT:?the text to train on, or its shards: TEXT="/data/part-*.txt"}
RUN=${RUN:-$HOME/runs/gru}
CHARACTERS=${CHARACTERS:-2000000000}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

stopping=
trap 'stopping=yes; kill -TERM "$training"' TERM

tinygrad-gru train --text "$TEXT" --out "$RUN" --characters "$CHARACTERS" --resume auto --grace 100 --quiet &
training=$!
wait "$training"
status=$?
if [ -n "$stopping" ] && [ "$status" -gt 128 ]; then # the signal has ended the wait, not the run
    wait "$training"
    status=$?
fi

if [ "$status" -eq 75 ]; then # stopped and saved: the same command goes on
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
