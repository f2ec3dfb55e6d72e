// A route whose answer goes back to the client: a small calculator.
exports.handler = async (event) => {
  const { connectionId, routeKey } = event.requestContext;
  const { numbers } = JSON.parse(event.body);
  if (!Array.isArray(numbers)) {
    return { statusCode: 400, body: JSON.stringify({ message: 'numbers must be a list', routeKey }) };
  }
  const sum = numbers.reduce((total, number) => total + number, 0);
  return { statusCode: 200, body: JSON.stringify({ sum, connectionId }) };
};
