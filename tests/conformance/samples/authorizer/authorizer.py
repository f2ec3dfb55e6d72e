"""A Lambda authorizer of type REQUEST: lets in who knows a token, and says who it is."""

import os

USERS = {'allow-ann': 'ann', 'allow-bob': 'bob'}


def lambda_handler(event, context):
    token = event['queryStringParameters'].get('token')
    if token == 'unauthorized':
        # This very text makes it a 401.
        raise Exception('Unauthorized')
    user = USERS.get(token)
    effect = 'Allow' if user else 'Deny'
    return {
        'principalId': user or 'anonymous',
        'policyDocument': {
            'Version': '2012-10-17',
            'Statement': [{'Action': 'execute-api:Invoke', 'Effect': effect, 'Resource': event['methodArn']}],
        },
        'context': {'plan': os.environ['PLAN'], 'level': 3, 'beta': True},
    }
