//! Who is calling, and may they: SigV4 signatures, bearer API keys and the allow rules of credentials.
//!
//! Everything here is a function from values to values. The crate opens no file or socket, runs no SQL and never
//! asks a clock: the caller passes the present time. Secrets are held in [`Secret`], which prints as `****`.
//!
//! - [`sigv4`]: verify and make AWS Signature Version 4, in headers and in the query string.
//! - [`bearer`]: API keys that are stored as a hash.
//! - [`credential`]: what an access key may do, resource ARNs, the text of a denial.
//! - [`role`]: what an administrator may do, with a bearer key or an access key.
//! - [`jwt`]: JSON Web Tokens of clients: find, verify, sign; key sets.
//! - [`connect_token`]: one-time tokens and the keyed hashes under which they are stored.
//! - [`subprotocol`]: the pair `tidegate.bearer, {token}`, which both kinds of token may use.
//! - [`backend_signature`]: the signature of requests to a backend.

pub mod backend_signature;
pub mod bearer;
pub mod connect_token;
pub mod credential;
pub mod jwt;
pub mod role;
pub mod secret;
pub mod sigv4;
pub mod subprotocol;

pub use backend_signature::{
    BackendSignatureError, SignedRequest, TIDEGATE_SIGNATURE, sign_backend_request, verify_backend_request,
};
pub use bearer::{ApiKey, bearer_token};
pub use connect_token::{
    ConnectToken, ConnectTokenProblem, FoundConnectToken, TokenHash, TokenKeys, find_connect_token,
};
pub use credential::{Credential, ResourceScope, access_denied_message};
pub use jwt::{FoundToken, JwtRefusal, JwtVerifier, VerifiedJwt, find_token};
pub use role::{AdminKey, AdminKeys, Role};
pub use secret::Secret;
pub use sigv4::error::{MismatchReason, SignatureError};
pub use sigv4::keys::SigningKeyCache;
pub use sigv4::sign::{Payload, SignError, Signer};
pub use sigv4::verify::{PathEncoding, Verified, Verifier};
pub use sigv4::{CredentialKeys, CredentialSource, RequestParts};
pub use subprotocol::{BEARER_SUBPROTOCOL, OfferedSubprotocols, offered_subprotocols};
