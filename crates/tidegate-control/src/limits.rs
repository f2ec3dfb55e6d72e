//! Quotas and lengths of the control plane.
//!
//! Sources: "Quotas for configuring and running a WebSocket API in API Gateway" and the `apigatewayv2` model (API
//! version 2018-11-29), except where a line says that Tidegate allows more.

use std::time::Duration;

use tidegate_core::snapshot::Throttle;

/// How many of each there may be, and how often operations may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Quotas {
    /// APIs of the node.
    pub apis: usize,
    /// Routes of an API.
    pub routes_per_api: usize,
    /// Integrations of an API.
    pub integrations_per_api: usize,
    /// Authorizers of an API.
    pub authorizers_per_api: usize,
    /// Stages of an API.
    pub stages_per_api: usize,
    /// Domain names of the node.
    pub domain_names: usize,
    /// API mappings of a domain name.
    pub mappings_per_domain: usize,
    /// None: operations may be called as often as the node can.
    pub calls: Option<CallRates>,
}

/// How often operations may be called; calls of other programs only, not what the node does itself.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRates {
    /// All operations together.
    pub all: Throttle,
    /// CreateDeployment.
    pub create_deployment: Throttle,
    /// CreateDomainName.
    pub create_domain_name: Throttle,
    /// CreateVpcLink.
    pub create_vpc_link: Throttle,
}

impl Quotas {
    /// Tidegate's own, which are wide.
    pub const TIDEGATE: Self = Self {
        apis: usize::MAX,
        routes_per_api: 1000,
        integrations_per_api: 1000,
        authorizers_per_api: 100,
        stages_per_api: 100,
        domain_names: usize::MAX,
        mappings_per_domain: 1000,
        calls: None,
    };

    /// Those of the real service, before a customer asks for more.
    pub const AWS: Self = Self {
        apis: 600,
        routes_per_api: 300,
        integrations_per_api: 300,
        authorizers_per_api: 10,
        stages_per_api: 10,
        domain_names: 120,
        mappings_per_domain: 200,
        calls: Some(CallRates {
            all: Throttle { rate: 10.0, burst: 40.0 },
            create_deployment: once_in(5.0),
            create_domain_name: once_in(30.0),
            create_vpc_link: once_in(15.0),
        }),
    };
}

impl Default for Quotas {
    fn default() -> Self {
        Self::TIDEGATE
    }
}

const fn once_in(seconds: f64) -> Throttle {
    Throttle { rate: 1.0 / seconds, burst: 1.0 }
}

/// Changes of an API with `autoDeploy` that follow so soon upon the first share its deployment.
pub const AUTO_DEPLOY_WINDOW: Duration = Duration::from_millis(200);

/// Entries of `routeSettings`. Tidegate's bound: as many as the widest quota of routes.
pub const ROUTE_SETTINGS: usize = 1000;

/// Longest request body, in bytes. Larger than any object the model permits.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// Page size when `maxResults` is absent, in items.
pub const DEFAULT_PAGE: usize = 100;

/// Largest `maxResults`, in items. Tidegate's choice; the service does not state one.
pub const MAX_PAGE: usize = 500;

/// Integration responses per integration. Tidegate's bound.
pub const INTEGRATION_RESPONSES_PER_INTEGRATION: usize = 100;

/// Models per API. Tidegate's bound.
pub const MODELS_PER_API: usize = 1000;

/// Deployments per API, made by hand. Tidegate's bound, because each one keeps a frozen definition.
pub const DEPLOYMENTS_PER_API: usize = 10_000;

/// Deployments made by `autoDeploy` that are kept beside those a stage points to. Tidegate's bound.
pub const AUTO_DEPLOYMENTS_KEPT: usize = 20;

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
