#!/usr/bin/env bash
# Network namespaces of this machine as hosts: workers over TCP, one host cut off in mid-run.
#
#     bench/namespaces.sh [PROGRAM [HOSTS]]
#
# Needs root, iproute2, util-linux and Open MPI, and a PROGRAM built with `--features mpi` (target/debug/collimate).
# Trains the tiny model of the fixtures: alone; on all HOSTS (3); on all hosts with the cable of the last one pulled.
# The others must end within the watchdog's limit and name the lost one; the run that then goes on must end with the
# same bits.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${1:-target/debug/collimate}")
hosts=${2:-3}
limit=5
room=$(mktemp -d)
name=collimate
bridge=br-$name

remove() {
    for host in $(seq "$hosts"); do
        ip netns pids "$name-$host" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
        ip netns delete "$name-$host" 2>/dev/null || true
    done
    ip link delete "$bridge" 2>/dev/null || true
}
trap 'remove; rm -rf "$room"' EXIT
remove

ip link add "$bridge" type bridge
ip link set "$bridge" up
for host in $(seq "$hosts"); do
    ip netns add "$name-$host"
    ip link add "cable-$host" type veth peer name eth0 netns "$name-$host"
    ip link set "cable-$host" master "$bridge" up
    ip -n "$name-$host" address add "10.99.0.$host/24" dev eth0
    ip -n "$name-$host" link set eth0 up
    ip -n "$name-$host" link set lo up
done

# Runs a command on a host, as a remote shell would.
cat > "$room/enter" <<'ENTER'
#!/usr/bin/env bash
host=${1##*.}
shift
exec ip netns exec "collimate-$host" unshare --uts sh -c "hostname host-$host; $*"
ENTER
chmod +x "$room/enter"
places=$(seq -s, -f '10.99.0.%g:1' "$hosts")
workers="mpirun --allow-run-as-root --host $places -n $hosts --map-by node --bind-to none
    --mca plm_rsh_agent $room/enter --mca btl self,tcp --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0"

for row in $(seq 60); do
    echo "{\"prompt\": \"say $row\", \"response\": \"it is $row and $row again\"}"
done > "$room/rows.jsonl"
train="$program train sft --model_name_or_path fixtures/tiny/llama --dataset $room/rows.jsonl --max_steps 400
    --save_steps 20 --logging_steps 1 --gradient_accumulation_steps 4 --threads 1 --ddp_timeout $limit"
same() {
    cmp "$room/alone/adapter_model.safetensors" "$room/$1/adapter_model.safetensors" && echo "$1: the same bits"
}

$train --quiet --output_dir "$room/alone" > "$room/alone.txt"
"$room/enter" 10.99.0.1 $workers $train --quiet --output_dir "$room/all" > "$room/all.txt"
same all

"$room/enter" 10.99.0.1 $workers $train --output_dir "$room/cut" > "$room/cut.txt" 2>&1 &
mpirun=$!
until [ "$(wc -l < "$room/cut/metrics.jsonl" 2>/dev/null || echo 0)" -ge 30 ]; do sleep 0.1; done
ip link set "cable-$hosts" down
cut=$(date +%s%3N)
since() { echo $(($(date +%s%3N) - cut)); }
lives() { pgrep -f "^$program train sft .*--output_dir $room/cut" > /dev/null; }
while lives; do
    sleep 0.1
    [ "$(since)" -lt 60000 ] || { echo "workers live on"; cat "$room/cut.txt"; exit 1; }
done
echo "all workers had ended $(since) ms after the cut (limit $limit s)"
grep "is lost" "$room/cut.txt"
sleep 2
kill -0 $mpirun 2>/dev/null && echo "mpirun itself still waits for the host that is gone; it is ended"
pkill -KILL -f "$room/enter" || true
wait $mpirun || true
ip link set "cable-$hosts" up
sleep 1
"$room/enter" 10.99.0.1 $workers $train --quiet --output_dir "$room/cut" > "$room/again.txt"
same cut
