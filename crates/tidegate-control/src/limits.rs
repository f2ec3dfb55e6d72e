//! Quotas and lengths of the control plane.
//!
//! Sources: "Quotas for configuring and running a WebSocket API in API Gateway" and the `apigatewayv2` model (API
//! version 2018-11-29), except where a line says that Tidegate allows more.

/// Longest request body, in bytes. Larger than any object the model permits.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// Page size when `maxResults` is absent, in items.
pub const DEFAULT_PAGE: usize = 100;

/// Largest `maxResults`, in items. Tidegate's choice; the service does not state one.
pub const MAX_PAGE: usize = 500;

/// Routes per API. The service's default is 300, adjustable.
pub const ROUTES_PER_API: usize = 1000;

/// Integrations per API. The service's default is 300, adjustable.
pub const INTEGRATIONS_PER_API: usize = 1000;

/// Integration responses per integration. Tidegate's bound.
pub const INTEGRATION_RESPONSES_PER_INTEGRATION: usize = 100;

/// Models per API. Tidegate's bound.
pub const MODELS_PER_API: usize = 1000;

/// Authorizers per API. The service's default is 10, adjustable.
pub const AUTHORIZERS_PER_API: usize = 100;

/// Stages per API. The service's default is 10, adjustable.
pub const STAGES_PER_API: usize = 100;

/// Deployments per API, made by hand. Tidegate's bound, because each one keeps a frozen definition.
pub const DEPLOYMENTS_PER_API: usize = 10_000;

/// Deployments made by `autoDeploy` that are kept beside those a stage points to. Tidegate's bound.
pub const AUTO_DEPLOYMENTS_KEPT: usize = 20;

/// API mappings per domain name. The service's default is 200, adjustable.
pub const MAPPINGS_PER_DOMAIN: usize = 1000;

/// Variables per stage.
pub const STAGE_VARIABLES: usize = 100;

/// Longest name of a stage variable, in characters.
pub const STAGE_VARIABLE_NAME: usize = 64;

/// Longest value of a stage variable, in characters.
pub const STAGE_VARIABLE_VALUE: usize = 2048;

/// Tags per resource.
pub const TAGS_PER_RESOURCE: usize = 50;

/// Longest tag key, in characters.
pub const TAG_KEY: usize = 128;

/// Longest tag value, in characters.
pub const TAG_VALUE: usize = 256;

/// Longest name of an API, model, authorizer, VPC link or stage, in characters.
pub const NAME: usize = 128;

/// Longest description, in characters.
pub const DESCRIPTION: usize = 1024;

/// Longest version text of an API, in characters.
pub const VERSION: usize = 64;

/// Longest route key, in characters.
pub const ROUTE_KEY: usize = 128;

/// Longest selection expression, in characters. The model gives none for these; this is the bound of its other texts.
pub const EXPRESSION: usize = 1024;

/// Longest target of a route, in characters.
pub const TARGET: usize = 128;

/// Longest operation name, in characters.
pub const OPERATION_NAME: usize = 64;

/// Longest ARN, in characters.
pub const ARN: usize = 2048;

/// Longest integration URI, in characters.
pub const URI: usize = 2048;

/// Longest connection id of a VPC link, in characters.
pub const CONNECTION_ID: usize = 1024;

/// Longest mapping expression of a request parameter, in characters.
pub const MAPPING_VALUE: usize = 512;

/// Entries of a request parameter, template or model map. Tidegate's bound.
pub const MAP_ENTRIES: usize = 200;

/// Longest mapping template and model schema, in bytes.
pub const TEMPLATE: usize = 32_768;

/// Longest content type of a model, in characters.
pub const CONTENT_TYPE: usize = 256;

/// Longest access log format, in bytes.
pub const ACCESS_LOG_FORMAT: usize = 3072;

/// Longest domain name, in characters.
pub const DOMAIN_NAME: usize = 512;

/// Longest API mapping key, in characters.
pub const API_MAPPING_KEY: usize = 300;

/// Longest API id that may be chosen, in characters: it has to stay a DNS label and to fit the columns of clients.
pub const API_ID: usize = 32;

/// Shortest integration timeout, in milliseconds.
pub const MIN_TIMEOUT_MS: u32 = 50;

/// Longest integration timeout unless the settings raise it, in milliseconds.
pub const MAX_TIMEOUT_MS: u32 = 29_000;
