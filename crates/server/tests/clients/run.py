"""Installs the clients of other embedding servers into a cache folder and runs them against a server.

    python run.py --cache FOLDER --base http://127.0.0.1:PORT --model NAME --expected expected.json
    python run.py --cache FOLDER --install-only

Parts (--part, may be repeated; default: python and js): python (clients.py), js (clients.mjs), schema (schema.py). A part whose
packages cannot be installed, for want of a network or of npm, prints one line `SKIPPED part: why`; with --require that is a
failure. What was installed is kept under the hash of its list, and two runs do not install at once. Arguments after `--` go to
clients.py and clients.mjs as they stand. Exit status 1 where a check failed.

The first installation takes about 25 s and 310 MB for python (3.11 or later), 3 s and 21 MB for js, 10 s and
70 MB for schema.
"""

import argparse
import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
INSTALL_SECONDS = 600


class Unavailable(Exception):
    """The packages of a part cannot be installed; the text says why."""


@contextlib.contextmanager
def alone(folder):
    """One process at a time, where the system can lock files."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def call(command, **options):
    """Runs an installer quietly; says its first error where it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=INSTALL_SECONDS, check=False, **options,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} was not done after {INSTALL_SECONDS} s") from error
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("error", "npm err", "npm error"))]
        why = (errors or lines[-1:] or ["no message"])[0]
        raise Unavailable(f"{pathlib.Path(command[0]).name} ended with status {done.returncode}: {why[:300]}")


def installed(cache, name, lists, install):
    """The folder that `install` has filled by the lists, which may be there already."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {sys.platform}".encode())
    for file in lists:
        digest.update((HERE / file).read_bytes())
    folder = cache / f"{name}-{digest.hexdigest()[:16]}"
    with alone(cache):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            install(folder)
            (folder / "complete").touch()
    return folder


def python(cache, name, requirements):
    """The interpreter of an environment that has the requirements."""

    def binary(folder):
        return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def install(folder):
        call([sys.executable, "-m", "venv", str(folder / "venv")])
        # The lists name every package, so nothing is left to resolve; bytecode is made of what is imported only.
        call([
            str(binary(folder)), "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:",
            "--no-input", "--disable-pip-version-check", "--retries", "2", "-r", str(HERE / requirements),
        ])  # fmt: skip

    return binary(installed(cache, name, [requirements], install))


def javascript(cache):
    """A folder with node_modules."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        raise Unavailable("npm is not installed" if node else "node is not installed")

    def install(folder):
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / file, folder)
        call([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=1"], cwd=folder)

    return installed(cache, "js", ["package.json", "package-lock.json"], install)


def prepared(part, cache):
    """The command of a part, its packages installed."""
    if part == "js":
        folder = javascript(cache)
        # Node looks for packages beside the script.
        script = shutil.copy(HERE / "clients.mjs", folder)
        return ["node", str(script)]
    if part == "schema":
        return [str(python(cache, "schema", "requirements-schema.txt")), str(HERE / "schema.py")]
    return [str(python(cache, "python", "requirements.txt")), str(HERE / "clients.py")]


def flags(part, args):
    out = ["--base", args.base]
    if args.api_key:
        out += ["--api-key", args.api_key]
    if part == "schema":
        return out
    out += ["--model", args.model, "--expected", str(pathlib.Path(args.expected).resolve())]
    if args.require:
        out.append("--require-clients")
    if part == "python":
        for name in ("reranker", "classifier_url"):
            if getattr(args, name):
                out += ["--" + name.replace("_", "-"), getattr(args, name)]
    return out + args.more


def main():
    argv, more = sys.argv[1:], []
    if "--" in argv:
        at = argv.index("--")
        argv, more = argv[:at], argv[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True, type=pathlib.Path, help="where the packages are installed, and kept")
    parser.add_argument("--part", action="append", choices=["python", "js", "schema"], help="[default: python and js]")
    parser.add_argument("--base", help="http://127.0.0.1:PORT")
    parser.add_argument("--model", help="the first model of the server")
    parser.add_argument("--expected", help="the texts, and the vectors of the library (see clients.py)")
    parser.add_argument("--reranker", help="a reranker that the server has too")
    parser.add_argument("--classifier-url", help="where POST answers for a classifier")
    parser.add_argument("--api-key", help="the key, where the server has keys")
    parser.add_argument("--require", action="store_true", help="what cannot be installed is a failure")
    parser.add_argument("--install-only", action="store_true", help="install, and run nothing")
    args = parser.parse_args(argv)
    args.more = more
    parts = args.part or ["python", "js"]
    if not args.install_only:
        needed = ["base"] + ([] if parts == ["schema"] else ["model", "expected"])
        missing = [name for name in needed if not getattr(args, name)]
        if missing:
            parser.error("missing: " + ", ".join("--" + name for name in missing))

    failed = False
    for part in parts:
        try:
            command = prepared(part, args.cache.resolve())
        except Unavailable as why:
            print(f"SKIPPED {part}: {why}", flush=True)
            failed = failed or args.require
            continue
        if args.install_only:
            print(f"installed {part}", flush=True)
        elif subprocess.run(command + flags(part, args), stdin=subprocess.DEVNULL, check=False).returncode:
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
