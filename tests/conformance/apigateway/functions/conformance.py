"""The function of the conformance tests: reports its event to a connection that watches, and does what the event asks for.

`$connect` and authorizers are asked by query parameters, messages by their members. Who watches stands in the stage variables `endpoint` and
`watcher`, which every event has.
"""

import base64
import json
import os
import time

import boto3

_clients = {}


def report(event):
    variables = event.get("stageVariables") or {}
    if "watcher" in variables:
        endpoint = variables["endpoint"]
        if endpoint not in _clients:
            _clients[endpoint] = boto3.client("apigatewaymanagementapi", endpoint_url=endpoint)
        _clients[endpoint].post_to_connection(ConnectionId=variables["watcher"], Data=json.dumps(event).encode())


def handler(event, context):
    report(event)
    if event.get("type") == "REQUEST":
        return authorize(event)
    kind = event["requestContext"]["eventType"]
    if kind == "CONNECT":
        wanted = (event.get("queryStringParameters") or {}).get("do", "accept")
    elif kind == "MESSAGE":
        wanted = json.loads(event["body"]).get("do", "event")
    else:
        wanted = "accept"
    return ANSWERS[wanted](event)


def fail(event):
    raise ValueError("the function fails on purpose")


def sleep(event):
    time.sleep(2)
    return {"statusCode": 200}


def end(event):
    os._exit(3)


ANSWERS = {
    "accept": lambda event: {"statusCode": 200},
    "protocol": lambda event: {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "v2", "X-Own": "1"}},
    "refuse": lambda event: {"statusCode": 403, "body": "no"},
    "event": lambda event: {"statusCode": 200, "body": json.dumps(event)},
    "trouble": lambda event: {"statusCode": 500, "body": "trouble"},
    "base64": lambda event: {"statusCode": 200, "body": base64.b64encode("ünï".encode()).decode(), "isBase64Encoded": True},
    "empty": lambda event: {"statusCode": 200},
    "no status": lambda event: {"body": "x"},
    "no object": lambda event: "x",
    "body is no text": lambda event: {"statusCode": 200, "body": {"a": 1}},
    "fail": fail,
    "sleep": sleep,
    "end": end,
}


def authorize(event):
    wanted = event["queryStringParameters"].get("auth")
    arn = event["methodArn"]
    if wanted == "unauthorized":
        raise Exception("Unauthorized")
    if wanted == "fail":
        raise ValueError("the authorizer fails on purpose")
    if wanted == "malformed":
        return {"principalId": "ann", "policyDocument": "none"}
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": arn}
    if wanted == "deny":
        statement["Effect"] = "Deny"
    if wanted == "rest resource":
        statement["Resource"] = arn.rsplit("/", 1)[0] + "/*/*"
    if wanted == "wildcard":
        statement["Resource"] = arn.rsplit("/", 1)[0] + "/*"
    statements = [statement]
    if wanted == "both":
        statements.append({**statement, "Effect": "Deny"})
    if wanted == "no statement":
        statements = []
    answer = {"principalId": "ann", "policyDocument": {"Version": "2012-10-17", "Statement": statements}}
    answer["context"] = {"plan": "gold", "level": 3, "beta": True, "none": "", "ratio": 0.5}
    if wanted == "object in context":
        answer["context"] = {"list": [1]}
    if wanted == "no principal":
        del answer["principalId"]
    return answer
