"""Does the server do what its OpenAPI document says? schemathesis asks every operation, with what the document allows and
with what it does not.

    python schema.py --base http://127.0.0.1:PORT [--api-key KEY]

Three checks: no answer is a server error, each status is one the document lists for the operation, and each body is of the
schema listed for that status. 501 is no server error here: it is how a route says that the model's task is another one.
Bounded by examples of an operation and by the time of all; not to be done in time is a failure. The same seed gives the same
requests. The exit status is that of schemathesis, 0 where nothing was found, and 1 where the time was over.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance"
CONFIG = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 501]\n'
# What would fetch a model from the network or remove one, and what is a stream.
EXCLUDED = ["/api/pull", "/api/delete", "/embral/v1/stream"]
NOWHERE = "http://127.0.0.1:9"
LOCAL = "127.0.0.1,localhost,::1"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="http://127.0.0.1:PORT")
    parser.add_argument("--api-key", help="the key, where the server has keys")
    parser.add_argument("--examples", type=int, default=25, help="random requests of an operation [default: 25]")
    parser.add_argument("--timeout", type=int, default=300, help="seconds for everything [default: 300]")
    parser.add_argument("--seed", type=int, default=1, help="of the random requests [default: 1]")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATH", help="a path to leave out, besides " + ", ".join(EXCLUDED)
    )
    args = parser.parse_args()
    base = args.base.rstrip("/")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{base}/openapi.json", "--url", base, "--no-color",
        "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", str(args.examples),
        "--seed", str(args.seed), "--generation-database", "none", "--continue-on-failure", "--no-shrink",
        "--request-timeout", "30", "--wait-for-schema", "10", "--suppress-health-check", "all", "--warnings", "off",
    ]  # fmt: skip
    for path in EXCLUDED + args.exclude:
        command += ["--exclude-path", path]
    if args.api_key:
        command += ["--header", f"Authorization: Bearer {args.api_key}"]
    proxies = {name: NOWHERE for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
    environment = {**os.environ, **proxies, "no_proxy": LOCAL, "NO_PROXY": LOCAL, "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory(prefix="embral-schema-") as folder:
        pathlib.Path(folder, "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
        try:
            status = subprocess.run(command, cwd=folder, env=environment, timeout=args.timeout, check=False).returncode
        except subprocess.TimeoutExpired:
            print(f"FAILED schema: not done {args.timeout} s after the start")
            status = 1
    print("ok schema" if status == 0 else f"FAILED schema: status {status}")
    sys.exit(status)


if __name__ == "__main__":
    main()
