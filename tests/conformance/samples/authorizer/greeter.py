"""Greets by what the authorizer has established; two-way, so that the greeting goes back to the client."""

import json


def lambda_handler(event, context):
    authorizer = event['requestContext']['authorizer']
    body = {'hello': authorizer['principalId'], 'plan': authorizer['plan'], 'level': authorizer['level'], 'beta': authorizer['beta']}
    return {'statusCode': 200, 'body': json.dumps(body)}
