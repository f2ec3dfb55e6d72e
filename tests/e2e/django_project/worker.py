"""A process of the project that runs the test's lines: JSON in, JSON out, one object a line.

It stands for whatever else a project runs beside its web server (a task queue, a shell), with the same environment.
"""

import json
import os
import sys
import traceback

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
import django  # noqa: E402

django.setup()

for line in sys.stdin:
    given = json.loads(line)
    scope = dict(given["arguments"])
    try:
        exec(given["code"], scope)  # noqa: S102
        answer = {"result": scope.get("result")}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    sys.stdout.write(json.dumps(answer, default=str) + "\n")
    sys.stdout.flush()
