"""A chat in one room, as a Lambda function behind a WebSocket API: who is connected stands in a table, and each message
goes to everybody in it.

On AWS the table would be one of DynamoDB. Here it is a file, so that the example needs nothing but boto3.
"""

import json
import os
import sqlite3

import boto3

TABLE = os.environ["TABLE"]


def table():
    connection = sqlite3.connect(TABLE, isolation_level=None, timeout=5)
    connection.execute("CREATE TABLE IF NOT EXISTS people (id TEXT PRIMARY KEY, name TEXT)")
    return connection


def handler(event, context):
    request = event["requestContext"]
    connection_id = request["connectionId"]
    if request["routeKey"] == "$connect":
        name = (event.get("queryStringParameters") or {}).get("name")
        if not name:
            return {"statusCode": 400, "body": "Say who you are: ?name=..."}
        table().execute("INSERT INTO people VALUES (?, ?)", (connection_id, name))
        return {"statusCode": 200}
    if request["routeKey"] == "$disconnect":
        table().execute("DELETE FROM people WHERE id = ?", (connection_id,))
        return {"statusCode": 200}
    (name,) = table().execute("SELECT name FROM people WHERE id = ?", (connection_id,)).fetchone()
    tell_everybody(request, {"from": name, "text": json.loads(event["body"])["text"]})
    return {"statusCode": 200}


def tell_everybody(request, message):
    address = f"https://{request['domainName']}/{request['stage']}"
    client = boto3.client("apigatewaymanagementapi", endpoint_url=address)
    for (connection_id,) in table().execute("SELECT id FROM people").fetchall():
        try:
            client.post_to_connection(ConnectionId=connection_id, Data=json.dumps(message).encode())
        except client.exceptions.GoneException:
            table().execute("DELETE FROM people WHERE id = ?", (connection_id,))
