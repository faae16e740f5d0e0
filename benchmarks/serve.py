"""What `embral serve` promises of speed, measured beside `embral bench texts` on the same machine, one thing at a time.

    python benchmarks/serve.py target/release/embral MODEL TEXTS [--seconds 10] [--overload-seconds 60]

MODEL is a folder or a name, TEXTS a file with a text a line, of which the first 1000 are used. Nothing else may run on the machine.
Prints lines for a record: texts a second of 64 clients with a text each; what HTTP and JSON cost at 32 texts a request; latencies at half
of the load; latencies of urgent texts beside more bulk than the machine can do; ten times overload; chunks of a stream.
"""

import argparse
import contextlib
import json
import re
import socket
import statistics
import subprocess
import threading
import time
import urllib.request

PORT = 8098
URL = f"http://127.0.0.1:{PORT}"


@contextlib.contextmanager
def serving(binary, model, *flags):
    """A server, and its process."""
    command = [binary, "serve", "-m", f"bench={model}", "--port", str(PORT), "--log", "warn", *flags]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in child.stderr:
            if "serving on" in line:
                break
        threading.Thread(target=child.stderr.read, daemon=True).start()
        yield child
    finally:
        child.terminate()
        child.wait(60)


class Bench:
    """`embral bench` on one set of texts."""

    def __init__(self, args):
        self.args = args

    def texts(self):
        """Texts a second of the library at batches of 32."""
        command = [self.args.binary, "bench", "texts", "--texts", self.args.texts, "-m", self.args.model]
        command += ["--batch-size", "32", "--rounds", "1", "--limit", "1000"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(re.search(r"texts/s\s+([\d.]+)", out).group(1))

    def start(self, seconds, *flags):
        """Load on the server, under way."""
        command = [self.args.binary, "bench", "server", URL, "-i", self.args.texts, "--limit", "1000", "--json"]
        command += ["--seconds", str(seconds), *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def server(self, seconds, *flags):
        """Load on the server; its figures."""
        return json.loads(self.start(seconds, *flags).communicate()[0])


def metrics():
    return urllib.request.urlopen(f"{URL}/metrics", timeout=10).read().decode()


def number(text, name):
    return float(re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)", text, re.M).group(1))


def batches(before, after):
    """The mean and the 95th percentile of the milliseconds of batches between two readings, and the budget in tokens now."""
    read = lambda text: [(float(le), float(n)) for le, n in re.findall(r'embral_batch_seconds_bucket{le="([^"]+)"} (\S+)', text)]
    grown = [(le, b - a) for (le, a), (_, b) in zip(read(before), read(after))]
    count = grown[-1][1]
    total = number(after, "embral_batch_seconds_sum") - number(before, "embral_batch_seconds_sum")
    low, below = 0.0, 0.0
    for le, n in grown:
        if n >= 0.95 * count:
            break
        low, below = le, n
    p95 = low + (le - low) * (0.95 * count - below) / max(1.0, n - below)
    return 1e3 * total / count, 1e3 * p95, number(after, "embral_batch_budget_tokens")


def throughput(bench, child):
    pairs = []
    for _ in range(3):
        library = bench.texts()
        figures = bench.server(bench.args.seconds, "--clients", "64")
        pairs.append((library, figures["texts_s"]))
        print(f"  bench texts {library:.0f}, 64 clients {pairs[-1][1]:.0f} texts/s: {pairs[-1][1] / library:.2f}", flush=True)
    print(f"  median {statistics.median(s / l for l, s in pairs):.2f} of bench texts")
    return statistics.median(s for _, s in pairs)


def batch_cost(bench, child):
    for clients in ["1", "2"]:
        for dialect in ["openai", "openai-base64"]:
            before = metrics()
            figures = bench.server(bench.args.seconds, "--clients", clients, "--texts-per-request", "32", "--dialect", dialect)
            after = metrics()
            stage = {}
            for name in ["tokenize", "queue", "inference", "serialize"]:
                read = lambda text, what: float(
                    (re.search(rf'embral_stage_seconds_{what}{{stage="{name}"}} (\S+)', text) or [0, 0])[1]
                )
                grown = [read(after, what) - read(before, what) for what in ["sum", "count"]]
                stage[name] = 1e3 * grown[0] / max(1.0, grown[1])
            stages = ", ".join(f"{name} {ms:.2f}" for name, ms in stage.items())
            library = bench.texts()
            speed = figures["texts_s"]
            print(f"  {dialect}, {clients} clients: {speed:.0f} texts/s, bench texts {library:.0f}: {speed / library:.2f}; ms: {stages}")


def half_load(bench, rate, batch):
    figures = bench.server(2 * bench.args.seconds, "--rate", f"{rate / 2:.0f}")
    p99 = figures["latency_ms"]["p99"]
    print(f"  {rate / 2:.0f} requests/s: p50 {figures['latency_ms']['p50']:.1f} ms, p99 {p99:.1f} ms, {p99 / batch:.2f} batches of 32")


def urgent(bench, child):
    seconds = bench.args.seconds
    bulk = bench.start(12 * seconds, "--clients", "64", "--texts-per-request", "32", "--priority", "low")
    time.sleep(4 * seconds)
    for _ in range(3):
        before = metrics()
        figures = bench.server(2 * seconds, "--rate", "10", "--clients", "16", "--priority", "high")
        mean, p95, budget = batches(before, metrics())
        p50, p99 = figures["latency_ms"]["p50"], figures["latency_ms"]["p99"]
        print(f"  p50 {p50:.0f} ms, p99 {p99:.0f} ms; batches of {budget:.0f} tokens: mean {mean:.0f} ms, p95 {p95:.0f} ms: {p99 / p95:.2f}", flush=True)
    print(f"  bulk {json.loads(bulk.communicate()[0])['texts_s']:.0f} texts/s")


def overload(bench, child, rate):
    before = bench.server(bench.args.seconds, "--clients", "64")["texts_s"]
    figures = bench.server(
        bench.args.overload_seconds, "--rate", f"{10 * rate:.0f}", "--clients", "2000", "--pid", str(child.pid)
    )
    after = bench.server(bench.args.seconds, "--clients", "64", "--warm-up", "0")["texts_s"]
    samples = [sample[2] / 1e6 for sample in figures["memory"]["samples"]]
    print(f"  {10 * rate:.0f} requests/s: {figures['statuses']}, {figures['texts_s']:.0f} texts/s answered")
    print(f"  memory MB: after 10 s {samples[len(samples) // 6]:.1f}, half {samples[len(samples) // 2]:.1f}, end {samples[-1]:.1f}")
    print(f"  64 clients before {before:.0f}, right after {after:.0f} texts/s")


def stream(texts, size):
    """Milliseconds from the sentence that made a chunk final to the chunk."""
    lines = [line.strip() for line in open(texts, encoding="utf-8")][:120]
    connection = socket.create_connection(("127.0.0.1", PORT))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"POST /embral/v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n")

    def send(message):
        line = json.dumps(message).encode() + b"\n"
        connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))

    sent, took = [0.0], []

    def read():
        rest = b""
        while data := connection.recv(1 << 16):
            now = time.perf_counter()
            *whole, rest = (rest + data).split(b"\n")
            took.extend(1e3 * (now - sent[0]) for line in whole if line.startswith(b'{"chunk"'))
            if any(line.startswith((b'{"done"', b'{"error"')) for line in whole):
                return

    reader = threading.Thread(target=read)
    reader.start()
    send({"chunking": {"by": "sentences", "size": size}})
    for line in lines:
        sent[0] = time.perf_counter()
        send({"text": line + " "})
        time.sleep(0.15)
    sent[0] = time.perf_counter()
    send({"end": True})
    connection.sendall(b"0\r\n\r\n")
    reader.join()
    took.sort()
    print(f"  chunks of {size} tokens: {len(took)}, p50 {statistics.median(took):.1f} ms, p95 {took[int(0.95 * len(took))]:.1f} ms, longest {took[-1]:.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a measurement")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    args = parser.parse_args()
    bench = Bench(args)
    with serving(args.binary, args.model) as child:
        print("64 clients, a text a request")
        rate = throughput(bench, child)
        print("32 texts a request")
        batch_cost(bench, child)
        print("half load")
        half_load(bench, rate, 32e3 / rate)
        print("streams")
        for size in [64, 254]:
            stream(args.texts, size)
    with serving(args.binary, args.model) as child:
        print("urgent texts beside bulk")
        urgent(bench, child)
    with serving(args.binary, args.model, "--queue-requests", "1024") as child:
        print("ten times overload, a queue of 1024")
        overload(bench, child, rate)


if __name__ == "__main__":
    main()
