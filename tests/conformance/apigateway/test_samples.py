"""Applications as they are published, unchanged: deployed as their templates would, driven by clients."""

import json
from pathlib import Path

import pytest
from suite.api import DEFAULT
from suite.checks import check

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
HOW = "functions with the AWS SDKs under the Lambda Runtime API, dynalite, `websockets`"


@pytest.fixture
def dynamodb(shared_target):
    return shared_target.extra["dynamodb"]


def chat(new_api, functions, connect, disconnect, message):
    """The resources of the chats' template: three routes with a function each."""
    api = new_api(name="chat")
    for key, name in (("$connect", connect), ("$disconnect", disconnect), ("sendmessage", message)):
        api.function(key, functions.arn(name))
    return api.live()


def ids(table, key):
    return {item[key] for item in table.scan()["Items"]}


def wait_for(table, key, count):
    from harness.wait import until

    return until(lambda: len(found := ids(table, key)) == count and (found or True), f"{count} connections in the table", timeout=15)


@check(2, 9, feature="samples", needs=["gateway"], how=HOW, commands=["node"], what="Chat in Node.js (AWS SDK v3, DynamoDB): everyone gets every message, leaving takes one out of the table, stale connections are removed on 410")
@pytest.mark.timeout(120)
def test_node_chat(new_api, functions, dynamodb):
    # AG-2, AG-9
    table = dynamodb.table("node-chat", "connectionId")
    api = chat(new_api, functions, "node-onconnect", "node-ondisconnect", "node-sendmessage")
    with api.library() as ann, api.library() as bob:
        wait_for(table, "connectionId", 2)
        table.put_item(Item={"connectionId": "R0oXAdfD0kwCH6w="})
        ann.send(json.dumps({"action": "sendmessage", "data": "hello ü"}))
        assert (ann.recv(15), bob.recv(15)) == ("hello ü", "hello ü")
        wait_for(table, "connectionId", 2)
        with api.library():
            wait_for(table, "connectionId", 3)
        wait_for(table, "connectionId", 2)
        bob.send(json.dumps({"action": "sendmessage", "data": "two of us"}))
        assert (ann.recv(15), bob.recv(15)) == ("two of us", "two of us")
    wait_for(table, "connectionId", 0)


@check(2, 9, feature="samples", needs=["gateway"], how=HOW, what="Chat in Python (boto3, DynamoDB): the name comes with the query string, everyone else gets the message with it, stale connections are removed on GoneException")
@pytest.mark.timeout(120)
def test_python_chat(new_api, functions, dynamodb):
    # AG-2, AG-9
    table = dynamodb.table("python-chat", "connection_id")
    api = chat(new_api, functions, "python-chat", "python-chat", "python-chat")
    with api.library("name=Ann") as ann, api.library("name=Bob") as bob:
        wait_for(table, "connection_id", 2)
        table.put_item(Item={"connection_id": "R0oXAdfD0kwCH6w=", "user_name": "gone"})
        ann.send(json.dumps({"action": "sendmessage", "msg": "hello"}))
        assert bob.recv(15) == "Ann: hello"
        wait_for(table, "connection_id", 2)
        bob.send(json.dumps({"action": "sendmessage", "msg": "hi"}))
        assert ann.recv(15) == "Bob: hi"
    wait_for(table, "connection_id", 0)


@check(18, 14, feature="samples", needs=["gateway"], how=HOW, what="An application with a Lambda authorizer: token in the query string, 401, 403, and a greeting by what the authorizer established")
@pytest.mark.timeout(120)
def test_authorizer(new_api, functions, target):
    # AG-18, AG-14
    from suite.api import invocation_uri

    api = new_api(name="with-authorizer")
    authorizer = api.control.create_authorizer(
        ApiId=api.id, AuthorizerType="REQUEST", Name="token", IdentitySource=["route.request.querystring.token"], AuthorizerUri=invocation_uri(target, functions.arn("authorizer"))
    )
    api.mock("$connect", two_way=False, route={"AuthorizationType": "CUSTOM", "AuthorizerId": authorizer["AuthorizerId"]})
    api.function("greet", functions.arn("greeter"), two_way=True).deploy()
    with api.library("token=allow-ann") as ws:
        ws.send('{"action":"greet"}')
        assert json.loads(ws.recv(15)) == {"hello": "ann", "plan": "gold", "level": "3", "beta": "true"}
    for query, status in (("", 401), ("token=unauthorized", 401), ("token=nobody", 403)):
        assert api.open(query).status == status, query


@check(14, 2, feature="samples", needs=["gateway"], how=HOW, commands=["node"], what="A two-way route: the function's body comes back, that of its own 400 too")
@pytest.mark.timeout(120)
def test_two_way(new_api, functions):
    # AG-14, AG-2
    api = new_api(name="calculator").function("sum", functions.arn("calculator"), two_way=True).whoami().live()
    with api.library() as ws:
        ws.send('{"action":"whoami"}')
        connection = json.loads(ws.recv(15))["connectionId"]
        ws.send('{"action":"sum","numbers":[1,2,3.5]}')
        assert json.loads(ws.recv(15)) == {"sum": 6.5, "connectionId": connection}
        ws.send('{"action":"sum"}')
        assert json.loads(ws.recv(15)) == {"message": "numbers must be a list", "routeKey": "sum"}


@check(20, feature="samples", how="boto3, `websockets`", what="No functions at all: heartbeat and a check of orders with mapping templates and `MOCK`")
def test_templates(new_api):
    # AG-20
    definitions = json.loads((SAMPLES / "templates/definitions.json").read_text())
    api = new_api(name="templates")
    for key, route in definitions["routes"].items():
        made = api.control.create_integration(ApiId=api.id, IntegrationType="MOCK", RequestTemplates=route["request"], TemplateSelectionExpression=DEFAULT)
        api.route(key, made, two_way=not key.startswith("$"))
        for response_key, templates in route["responses"].items():
            options = {"ResponseTemplates": templates, "TemplateSelectionExpression": DEFAULT} if templates else {}
            api.response(key, response_key=response_key, **options)
    api.deploy(StageVariables={"currency": "EUR"})
    with api.library() as ws:
        ws.send('{"action":"ping"}')
        pong = json.loads(ws.recv(10))
        assert pong["action"] == "pong" and pong["time"] > 1_600_000_000_000
        ws.send('{"action":"validate","order":{"items":["tea"],"total":4}}')
        assert json.loads(ws.recv(10)) == {"ok": True, "stage": "prod", "currency": "EUR"}
        for order in ({"items": [], "total": 4}, {"items": ["tea"], "total": 0}):
            ws.send(json.dumps({"action": "validate", "order": order}))
            answer = json.loads(ws.recv(10))
            assert (answer["ok"], answer["reason"]) == (False, "an order needs items and a total")
