#!/bin/sh
# Prepares the Autobahn test cases for Python 3 in a scratch folder; nothing of theirs is kept in the tree.
#
# The published suite is Python 2 code: its case classes are converted, and run.py drives them with the current
# `autobahn` library.   usage: setup.sh SCRATCH_FOLDER   (PYTHON: interpreter, 3.11 or later)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scratch=$1

# Prepared already, with these versions and this conversion?
stamp=$(cat "$here/requirements.txt" "$here/setup.sh" | cksum | tr ' ' '-')
if [ -f "$scratch/ready-$stamp" ]; then
    exit 0
fi

rm -rf "$scratch"
mkdir -p "$scratch/suite/abcases"
scratch=$(cd "$scratch" && pwd)
"${PYTHON:-python3}" -m venv "$scratch/venv"
# The list is complete, so nothing is resolved.
"$scratch/venv/bin/pip" install -q --disable-pip-version-check --no-deps -r "$here/requirements.txt"
site=$("$scratch/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
cp -r "$site/autobahntestsuite/case" "$scratch/suite/abcases/case"
cp -r "$site/autobahntestsuite/testdata" "$scratch/suite/abcases/testdata"
cp "$site/autobahntestsuite/caseset.py" "$scratch/suite/abcases/"
: > "$scratch/suite/abcases/__init__.py"
cd "$scratch/suite/abcases"
"$scratch/venv/bin/python" - <<'PY'
import glob, re, subprocess, sys

files = glob.glob("case/*.py") + ["caseset.py"]
for f in files:
    # Source bytes beyond ASCII stood for themselves.
    s = open(f, encoding="latin-1").read()
    open(f, "w", encoding="utf-8").write(s)
# fissix is lib2to3, which Python 3.13 no longer has.
done = subprocess.run(
    [sys.executable, "-m", "fissix", "-w", "-n", *files], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
)
if done.returncode != 0:
    sys.exit("the conversion of the cases failed:\n" + done.stderr)
for f in files:
    s = open(f, encoding="utf-8").read()
    # Texts of the cases are byte strings of Python 2: here they are str, one character a byte.
    s = s.replace("binascii.b2a_hex(", "_hex(").replace("binascii.hexlify(", "_hex(")
    s = re.sub(r'pkg_resources\.resource_filename\("autobahntestsuite", ', "_data(", s)
    s = s.replace(", pkg_resources", "").replace("import pkg_resources\n", "")
    s = re.sub(r"^from zope\.interface import implements$", "implements = lambda *a: None", s, flags=re.M)
    s = re.sub(r"^(\s*)implements\(.*\)$", r"\1pass", s, flags=re.M)
    s = s.replace("len(self.payload) / self.p.autoFragmentSize", "len(self.payload) // self.p.autoFragmentSize")
    s = s.replace("(object, Case, )", "(Case, )")
    s = s.replace("v.validate(vss[:i])", "v.validate(vss[:i].encode('latin-1'))")
    for a in ("NoContextTakeover", "MaxWindowBits"):
        for b in ("accept", "request"):
            s = s.replace(b + a, b + "".join("_" + c.lower() if c.isupper() else c for c in a))
    open(f, "w", encoding="utf-8").write(s)
PY
touch "$scratch/ready-$stamp"
