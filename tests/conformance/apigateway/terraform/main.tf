# A whole WebSocket stack, as one would write it for the service.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "control" { type = string }
variable "region" { type = string }
variable "account" { type = string }
variable "domain" { type = string }
variable "description" {
  type    = string
  default = "chat of the shop"
}

provider "aws" {
  region                      = var.region
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
  endpoints {
    apigatewayv2 = var.control
  }
}

locals {
  function    = "arn:aws:lambda:${var.region}:${var.account}:function:chat"
  function_uri = "arn:aws:apigateway:${var.region}:lambda:path/2015-03-31/functions/${local.function}/invocations"
}

resource "aws_apigatewayv2_api" "chat" {
  name                       = "chat"
  description                = var.description
  protocol_type              = "WEBSOCKET"
  route_selection_expression = "$request.body.action"
  tags                       = { team = "shop" }
}

resource "aws_apigatewayv2_model" "join" {
  api_id       = aws_apigatewayv2_api.chat.id
  name         = "Join"
  content_type = "application/json"
  schema       = jsonencode({ "$schema" = "http://json-schema.org/draft-04/schema#", type = "object", required = ["room"] })
}

resource "aws_apigatewayv2_authorizer" "people" {
  api_id           = aws_apigatewayv2_api.chat.id
  name             = "people"
  authorizer_type  = "REQUEST"
  authorizer_uri   = local.function_uri
  identity_sources = ["route.request.querystring.token"]
}

resource "aws_apigatewayv2_integration" "http" {
  api_id             = aws_apigatewayv2_api.chat.id
  integration_type   = "HTTP_PROXY"
  integration_method = "POST"
  integration_uri    = "http://backend.example/$${stageVariables.side}"
  request_parameters = { "integration.request.header.connectionId" = "context.connectionId" }
  timeout_milliseconds = 5000
}

resource "aws_apigatewayv2_integration" "function" {
  api_id                    = aws_apigatewayv2_api.chat.id
  integration_type          = "AWS_PROXY"
  integration_uri           = local.function_uri
  integration_method        = "POST"
  content_handling_strategy = "CONVERT_TO_TEXT"
}

resource "aws_apigatewayv2_integration" "ping" {
  api_id                        = aws_apigatewayv2_api.chat.id
  integration_type              = "MOCK"
  template_selection_expression = "\\$default"
  request_templates             = { "$default" = "{\"statusCode\": 200}" }
  passthrough_behavior          = "NEVER"
}

resource "aws_apigatewayv2_integration_response" "pong" {
  api_id                        = aws_apigatewayv2_api.chat.id
  integration_id                = aws_apigatewayv2_integration.ping.id
  integration_response_key      = "$default"
  template_selection_expression = "\\$default"
  response_templates            = { "$default" = "{\"pong\": true}" }
}

resource "aws_apigatewayv2_route" "connect" {
  api_id             = aws_apigatewayv2_api.chat.id
  route_key          = "$connect"
  authorization_type = "CUSTOM"
  authorizer_id      = aws_apigatewayv2_authorizer.people.id
  target             = "integrations/${aws_apigatewayv2_integration.function.id}"
  request_parameter {
    request_parameter_key = "route.request.querystring.token"
    required              = true
  }
}

resource "aws_apigatewayv2_route" "default" {
  api_id    = aws_apigatewayv2_api.chat.id
  route_key = "$default"
  target    = "integrations/${aws_apigatewayv2_integration.http.id}"
}

resource "aws_apigatewayv2_route" "join" {
  api_id                     = aws_apigatewayv2_api.chat.id
  route_key                  = "join"
  operation_name             = "join"
  target                     = "integrations/${aws_apigatewayv2_integration.function.id}"
  model_selection_expression = "$request.body.action"
  request_models             = { join = aws_apigatewayv2_model.join.name }
}

resource "aws_apigatewayv2_route" "ping" {
  api_id                              = aws_apigatewayv2_api.chat.id
  route_key                           = "ping"
  target                              = "integrations/${aws_apigatewayv2_integration.ping.id}"
  route_response_selection_expression = "$default"
}

resource "aws_apigatewayv2_route_response" "ping" {
  api_id             = aws_apigatewayv2_api.chat.id
  route_id           = aws_apigatewayv2_route.ping.id
  route_response_key = "$default"
}

resource "aws_apigatewayv2_deployment" "now" {
  api_id      = aws_apigatewayv2_api.chat.id
  description = "all of it"
  depends_on = [
    aws_apigatewayv2_route.connect, aws_apigatewayv2_route.default, aws_apigatewayv2_route.join, aws_apigatewayv2_route_response.ping,
    aws_apigatewayv2_integration_response.pong,
  ]
  lifecycle { create_before_destroy = true }
}

resource "aws_apigatewayv2_stage" "prod" {
  api_id          = aws_apigatewayv2_api.chat.id
  name            = "prod"
  deployment_id   = aws_apigatewayv2_deployment.now.id
  stage_variables = { side = "left", tier = "gold" }
  default_route_settings {
    data_trace_enabled       = true
    detailed_metrics_enabled = true
    logging_level            = "INFO"
    throttling_burst_limit   = 500
    throttling_rate_limit    = 250
  }
  route_settings {
    route_key              = "join"
    throttling_burst_limit = 5
    throttling_rate_limit  = 2.5
  }
  access_log_settings {
    destination_arn = "arn:aws:logs:${var.region}:${var.account}:log-group:chat"
    format          = "$context.requestId $context.eventType $context.status"
  }
  tags = { team = "shop" }
}

resource "aws_apigatewayv2_domain_name" "ws" {
  domain_name = var.domain
  domain_name_configuration {
    certificate_arn = "arn:aws:acm:${var.region}:${var.account}:certificate/00000000-0000-4000-8000-000000000000"
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "v1" {
  api_id          = aws_apigatewayv2_api.chat.id
  domain_name     = aws_apigatewayv2_domain_name.ws.id
  stage           = aws_apigatewayv2_stage.prod.id
  api_mapping_key = "v1"
}

resource "aws_apigatewayv2_vpc_link" "inner" {
  name               = "inner"
  subnet_ids         = ["subnet-0a1b2c3d"]
  security_group_ids = []
}

output "api" { value = aws_apigatewayv2_api.chat.id }
output "endpoint" { value = aws_apigatewayv2_stage.prod.invoke_url }
