//! Arguments of `tidegate import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) from: ImportFrom,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportFrom {
    /// A template of the Serverless Application Model
    Sam(TemplateArgs),
    /// `serverless.yml` of the Serverless Framework
    Serverless(ServerlessArgs),
    /// A CloudFormation template, YAML or JSON
    Cloudformation(TemplateArgs),
    /// A running API, by its id, with the credentials of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    Aws(AwsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// The template; `-` reads the standard input
    pub(crate) file: PathBuf,
    /// Value of a parameter, or of what only AWS knows; for the name of an API, its id. May be repeated
    #[arg(long, short = 'p', value_name = "NAME=VALUE")]
    pub(crate) parameter: Vec<String>,
    /// AWS::Region; that of the template's provider, or us-east-1, unless given
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// AWS::AccountId
    #[arg(long, value_name = "ID", default_value = "000000000000")]
    pub(crate) account_id: String,
    /// AWS::StackName
    #[arg(long, value_name = "NAME")]
    pub(crate) stack_name: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServerlessArgs {
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// The stage, as `serverless deploy --stage` has it
    #[arg(long)]
    pub(crate) stage: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AwsArgs {
    /// Id of the API
    pub(crate) api_id: String,
    /// Address of the control plane, unless it is Amazon's
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL_APIGATEWAYV2")]
    pub(crate) endpoint_url: Option<String>,
    /// Region of the API; AWS_REGION or AWS_DEFAULT_REGION unless given
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// File with further trusted certificates, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cafile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write the document into this file instead of the standard output
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write what belongs into the configuration file into this file, instead of behind the document as comments
    #[arg(long, value_name = "FILE")]
    pub(crate) configuration: Option<PathBuf>,
    /// End with 1 when something of the API itself was left out
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print document, configuration and what was left out as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
