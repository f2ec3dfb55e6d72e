"""Mapping templates and MOCK: each element of the language as the client sees it, and what happens without a template."""

import base64
import json
import re

import pytest
from harness.backend import Reply
from suite.api import DEFAULT, refused
from suite.checks import check

RAW = "boto3, raw WebSocket client, MOCK integrations"
MESSAGE = '{"action":"t","name":"Ann","n":7,"pi":3.5,"yes":true,"no":null,"list":[3,1,2],"tags":["a","b"],"o":{"k":"v","x":{"y":"deep"}},"quote":"it\'s \\"so\\"","price":"$5"}'


# (what, template, what it must make of the message)
REFERENCES = [
    ("plain", "$n", "7"), ("braces", "${n}x", "7x"), ("silent and unknown", "[$!nothing]", "[]"), ("unknown prints itself", "[$nothing]", "[$nothing]"),
    ("braces and unknown", "[${nothing}]", "[${nothing}]"), ("property", "$o.k", "v"), ("properties", "$o.x.y", "deep"), ("index", "$list[0]", "3"),
    ("key", "$o['k']", "v"), ("method", "$name.length()", "3"), ("escaped dollar of text", "$price", "$5"),
]
DIRECTIVES = [
    ("if", "#if($n == 7)a#{else}b#end", "a"), ("elseif", "#if($n == 1)a#elseif($n == 7)b#{else}c#end", "b"), ("else", "#if($n == 1)a#{else}c#end", "c"),
    ("foreach", "#foreach($e in $list)$e#if($foreach.hasNext),#end#end", "3,1,2"), ("foreach index", "#foreach($e in $tags)$foreach.index:$e #end", "0:a 1:b "),
    ("foreach count", "#foreach($e in $tags)$foreach.count#end", "12"), ("velocityCount", "#foreach($e in $tags)$velocityCount#end", "12"),
    ("first and last", "#foreach($e in $list)#if($foreach.first)<#end$e#if($foreach.last)>#end#end", "<312>"),
    ("break", "#foreach($e in $list)$e#if($e == 1)#break#end#end", "31"), ("stop", "a#stop b", "a"), ("comment", "a##rest", "a"), ("block comment", "a#* x *#b", "ab"),
    ("literal", "#[[$n #if]]#", "$n #if"), ("set and use", "#set($a = $n + 1)$a", "8"), ("foreach over range", "#foreach($i in [1..3])$i#end", "123"),
    ("map entries", '#foreach($e in $o.entrySet())#if($e.key == "k")$e.value#end#end', "v"),
]
OPERATORS = [
    ("equal", "#if($name == 'Ann')y#end", "y"), ("not equal", "#if($name != 'Bob')y#end", "y"), ("less", "#if($n < 8 && $n <= 7)y#end", "y"),
    ("greater", "#if($n > 6 && $n >= 7)y#end", "y"), ("or and not", "#if(!($n == 1) || false)y#end", "y"), ("arithmetic", "#set($a = ($n + 3) * 2 - 5)$a", "15"),
    ("division and rest", "#set($a = $n / 2)#set($b = $n % 2)$a $b", "3 1"), ("list", '#set($a = ["x", "y"])$a.size()', "2"), ("map", '#set($m = {"k": 1})$m.k', "1"),
    ("interpolation", '#set($s = "<$name>")$s', "<Ann>"), ("no interpolation", "#set($s = '<$name>')$s", "<$name>"), ("range", "#set($r = [1..3])$r.size()", "3"),
]
METHODS = [
    ("substring", "$name.substring(1) $name.substring(0,2)", "nn An"), ("indexOf", "$name.indexOf('n') $name.lastIndexOf('n')", "1 2"),
    ("startsWith", "$name.startsWith('A') $name.endsWith('n')", "true true"), ("contains", "$name.contains('nn')", "true"), ("equals", "$name.equals('Ann')", "true"),
    ("equalsIgnoreCase", "$name.equalsIgnoreCase('ANN')", "true"), ("case", "$name.toLowerCase() $name.toUpperCase()", "ann ANN"), ("trim", "#set($s = '  x ')$s.trim()", "x"),
    ("replace", "$name.replace('n','m')", "Amm"), ("replaceAll", "$name.replaceAll('[a-z]','_')", "A__"), ("replaceFirst", "$name.replaceFirst('n','m')", "Amn"),
    ("split", "#set($s = 'a,b')#set($p = $s.split(','))$p[1]", "b"), ("matches", "$name.matches('A.*')", "true"), ("isEmpty", "$name.isEmpty()", "false"),
    ("charAt", "$name.charAt(0)", "A"), ("concat", "$name.concat('!')", "Ann!"), ("toString", "$n.toString().length()", "1"),
    ("list size", "$list.size() $list.get(2) $list.contains(1) $list.isEmpty()", "3 2 true false"),
    ("list add", "#set($l = [])#set($x = $l.add('a'))#set($x = $l.add('b'))#set($x = $l.remove(0))$l.get(0)$l.size()", "b1"),
    ("map", "#set($m = {})#set($x = $m.put('k', 'v'))$m.get('k') $m.containsKey('k') $m.size() $m.isEmpty()", "v true 1 false"),
    ("keySet", "#foreach($k in $o.keySet())$k#end", "kx"), ("values", "#set($m = {'a': 1})#foreach($v in $m.values())$v#end", "1"),
]
INPUT = [
    ("json", "$input.json('$.o.x')", '{"y":"deep"}'), ("json of text", "$input.json('$.name')", '"Ann"'), ("json of list", "$input.json('$.list')", "[3,1,2]"),
    ("json of nothing", "$input.json('$.nope')", '""'), ("path", "$input.path('$.o.x').y", "deep"), ("path of list", "$input.path('$.tags')[1]", "b"),
    ("body", "$input.body", MESSAGE), ("escapeJavaScript", "$util.escapeJavaScript($quote)", "it\\'s \\\"so\\\""),
    ("undone quote", "$util.escapeJavaScript($quote).replaceAll(\"\\\\'\",\"'\")", "it's \\\"so\\\""), ("parseJson", "#set($p = $util.parseJson('{\"a\":{\"b\":5}}'))$p.a.b", "5"),
    ("urlEncode", "$util.urlEncode('a b&c')", "a+b%26c"), ("urlDecode", "$util.urlDecode('a+b%26c')", "a b&c"),
    ("base64Encode", "$util.base64Encode($name)", base64.b64encode(b"Ann").decode()), ("base64Decode", "$util.base64Decode('QW5u')", "Ann"),
]
# So that the cases above can be written shortly.
PRELUDE = "".join(f"#set(${name} = $input.path('$.{name}'))" for name in ("name", "n", "list", "tags", "o", "quote", "price"))


def rendered(new_api, cases, **stage):
    """What request templates make of the message: a route for each, whose HTTP backend echoes what it gets."""
    api = new_api()
    for index, (_, template, _) in enumerate(cases):
        api.http(
            f"t{index}", path="/echo", kind="HTTP", parameters={}, two_way=True, RequestTemplates={"$default": PRELUDE + template}, TemplateSelectionExpression=DEFAULT
        )
        api.response(f"t{index}")
    api.deploy(**stage)
    api.backend.on("/echo", hook=lambda request: Reply(body=request.body))
    with api.connect() as ws:
        for index, (what, template, wanted) in enumerate(cases):
            ws.text(MESSAGE.replace('"t"', f'"t{index}"', 1))
            yield what, template, ws.message().replace(f'"t{index}"', '"t"', 1), wanted


def all_right(results):
    wrong = [f"{what}: {template!r} gave {have!r}, not {wanted!r}" for what, template, have, wanted in results if have != wanted]
    assert not wrong, "\n" + "\n".join(wrong)


HOW = "boto3, raw WebSocket client, recording HTTP server behind `HTTP` integrations"


@check(20, feature="templates", needs=["backend"], how=HOW, what=f"References, {len(REFERENCES)} forms: `$x`, `${{x}}`, `$!x`, properties, indexes, keys, method calls; an unknown one prints itself, a quiet one nothing")
def test_references(new_api):
    # AG-20
    all_right(rendered(new_api, REFERENCES))


@check(20, feature="templates", needs=["backend"], how=HOW, what=f"Directives, {len(DIRECTIVES)} forms: `#set`, `#if`, `#elseif`, `#else`, `#foreach` with its variables, `#break`, `#stop`, comments, literal blocks")
def test_directives(new_api):
    # AG-20
    all_right(rendered(new_api, DIRECTIVES))


@check(20, feature="templates", needs=["backend"], how=HOW, what=f"Operators, {len(OPERATORS)} forms: comparisons, logic, arithmetic, ranges, lists, maps, texts with and without interpolation")
def test_operators(new_api):
    # AG-20
    all_right(rendered(new_api, OPERATORS))


@check(20, feature="templates", needs=["backend"], how=HOW, what=f"Methods of texts, lists and maps, {len(METHODS)} forms")
def test_methods(new_api):
    # AG-20
    all_right(rendered(new_api, METHODS))


@check(
    20, feature="templates", needs=["backend"], how=HOW,
    what=f"`$input` and `$util`, {len(INPUT)} forms: `.json`, `.path`, `.body`; `.escapeJavaScript`, `.parseJson`, `.urlEncode`, `.urlDecode`, `.base64Encode`, `.base64Decode`",
)
def test_input_and_util(new_api):
    # AG-20
    all_right(rendered(new_api, INPUT))


@check(20, feature="templates", needs=["backend"], how=HOW, what="`$context` and `$stageVariables` in all their spellings")
def test_context_and_stage_variables(new_api):
    # AG-20
    template = "$context.routeKey|$context.eventType|$context.stage|$stageVariables.tier|$stageVariables['tier']|${stageVariables['tier']}|[$!context.nope]"
    all_right(rendered(new_api, [("all", template, "t0|MESSAGE|prod|gold|gold|gold|[]")], StageVariables={"tier": "gold"}))


@check(20, feature="templates", how=RAW, what="The heartbeat: a route without backend whose response template answers with `$context` and `$stageVariables`")
def test_heartbeat(new_api):
    # AG-20
    api = new_api().mock("$default", '{"pong": $context.requestTimeEpoch, "tier": "$stageVariables.tier", "route": "$context.routeKey"}')
    api.deploy(StageVariables={"tier": "gold"})
    with api.connect() as ws:
        ws.text("ping")
        pong = ws.json()
    assert re.fullmatch(r"\d{13}", str(pong["pong"])) and (pong["tier"], pong["route"]) == ("gold", "$default")


@check(20, feature="templates", how=RAW, what="`MOCK`: the request template's `statusCode`, computed from the message, selects the integration response by a pattern or `$default`")
def test_mock_selection(new_api):
    # AG-20
    responses = {"/4\\d\\d/": "refused", "/2\\d\\d/": "fine", "$default": "else"}
    api = new_api().mock("$default", request="{\"statusCode\": $input.path('$.status')}", responses=responses).live()
    with api.connect() as ws:
        for status, wanted in ((200, "fine"), (299, "fine"), (404, "refused"), (500, "else")):
            ws.text(json.dumps({"status": status}))
            assert (status, ws.message()) == (status, wanted)


@check(20, feature="templates", how=RAW, what="A template that yields no `statusCode` is a configuration error: `Internal server error`, the connection stays open")
def test_mock_without_status(new_api):
    # AG-20
    api = new_api().mock("$default", "never", request="no JSON").whoami().live()
    with api.connect() as ws:
        ws.text("x")
        assert ws.json()["message"] == "Internal server error"
        api.identify(ws)


PASSTHROUGH = [
    ("WHEN_NO_MATCH, none", "WHEN_NO_MATCH", {}, True), ("WHEN_NO_MATCH, others", "WHEN_NO_MATCH", {"other": "x"}, True),
    ("WHEN_NO_TEMPLATES, none", "WHEN_NO_TEMPLATES", {}, True), ("WHEN_NO_TEMPLATES, others", "WHEN_NO_TEMPLATES", {"other": "x"}, False),
    ("NEVER, none", "NEVER", {}, False), ("NEVER, others", "NEVER", {"other": "x"}, False),
]


@check(20, feature="templates", needs=["backend"], how=HOW, what="Passthrough without a fitting template: `WHEN_NO_MATCH`, `WHEN_NO_TEMPLATES`, `NEVER`, each with and without other templates; refused is `Unsupported Media Type`")
@pytest.mark.parametrize("behavior,templates,passes", [case[1:] for case in PASSTHROUGH], ids=[case[0] for case in PASSTHROUGH])
def test_passthrough(new_api, behavior, templates, passes):
    # AG-20
    api = new_api()
    options = {"RequestTemplates": templates} if templates else {}
    api.http("$default", kind="HTTP", parameters={}, PassthroughBehavior=behavior, TemplateSelectionExpression="${request.body.kind}", **options)
    api.response("$default")
    api.deploy()
    with api.connect() as ws:
        ws.text('{"kind":"chat"}')
        if passes:
            assert api.backend.wait(1)[0].text == '{"kind":"chat"}'
        else:
            assert ws.json()["message"] == "Unsupported Media Type"
            assert api.backend.requests == []


@check(20, feature="templates", needs=["backend"], how=HOW, what="`templateSelectionExpression` chooses by the message, `$default` is the fallback")
def test_template_selection(new_api):
    # AG-20
    api = new_api()
    templates = {"join": "J:$input.path('$.room')", "$default": "D"}
    api.http("$default", kind="HTTP", parameters={}, RequestTemplates=templates, TemplateSelectionExpression="${request.body.kind}")
    api.response("$default")
    api.deploy()
    with api.connect() as ws:
        for text in ('{"kind":"join","room":"blue"}', '{"kind":"leave"}'):
            ws.text(text)
        assert [r.text for r in api.backend.wait(2)] == ["J:blue", "D"]


@check(20, feature="templates", needs=["backend"], how=HOW, what="Integration responses of `HTTP`: chosen by the backend's status, their templates see its body; no match and no `$default` is `Internal server error`")
def test_integration_responses(new_api):
    # AG-20
    api = new_api().whoami()
    api.http("$default", kind="HTTP", parameters={}, two_way=True)
    api.response("$default", "error: $input.path('$.why')", "/5\\d\\d/")
    api.response("$default", "result: $input.json('$.value')", "/2\\d\\d/")
    api.deploy()
    with api.connect() as ws:
        for status, body, wanted in ((200, '{"value":[1,2]}', "result: [1,2]"), (503, '{"why":"late"}', "error: late")):
            api.backend.on("/default", status=status, body=body)
            ws.text("x")
            assert ws.message() == wanted
        api.backend.on("/default", status=404, body="{}")
        ws.text("x")
        assert ws.json()["message"] == "Internal server error"
        api.identify(ws)


@check(20, feature="templates", needs=["backend"], how=HOW, what="`contentHandlingStrategy`: `CONVERT_TO_BINARY` decodes base64 on its way to the backend, `CONVERT_TO_TEXT` encodes what comes back; invalid base64 is `Internal server error`")
def test_content_handling(new_api):
    # AG-20
    api = new_api().whoami()
    api.http("$default", kind="HTTP", parameters={}, two_way=True, ContentHandlingStrategy="CONVERT_TO_BINARY")
    api.response("$default", ContentHandlingStrategy="CONVERT_TO_TEXT")
    api.deploy()
    api.backend.on("/default", body=b"\x00\xff")
    with api.connect() as ws:
        ws.text(base64.b64encode(b"\x01\xfe").decode())
        assert ws.message() == base64.b64encode(b"\x00\xff").decode()
        assert api.backend.wait(1)[0].body == b"\x01\xfe"
        ws.text("no base64!")
        assert ws.json()["message"] == "Internal server error"


@check(20, feature="templates", how="boto3", what="A template that cannot be parsed, a response key that is no pattern: refused when it is made or deployed")
def test_invalid_definitions(new_api):
    # AG-20
    api = new_api().mock("$default", "x")
    with refused("BadRequestException", 400):
        api.response("$default", "y", "no pattern")
    with refused("ConflictException", 409):
        api.response("$default", "y", "$default")
