//! A KMS v2 plugin for tests: what `encryption.kms_endpoint` names, with a key in a file in place of an appliance.
//!
//! `kms-plugin SOCKET KEY`: a gRPC server on a Unix socket (kubernetes.io, "Using a KMS provider for data encryption",
//! v1.36; the messages are those of k8s.io/kms, apis/v2/api.proto). KEY is a file of 32 bytes.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use prost::Message;
use tokio::net::{UnixListener, UnixStream};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Length of a nonce and of a tag of AES-256-GCM (NIST SP 800-38D).
const NONCE: usize = 12;
/// See [`NONCE`].
const TAG: usize = 16;
/// The name of the only key.
const KEY_ID: &str = "test-1";

#[derive(Message)]
struct StatusResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Message)]
struct DecryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(map = "string, bytes", tag = "4")]
    annotations: HashMap<String, Vec<u8>>,
}

#[derive(Message)]
struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
}

#[derive(Message)]
struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Message)]
struct EncryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(map = "string, bytes", tag = "3")]
    annotations: HashMap<String, Vec<u8>>,
}

/// Answers one call: a message in, a message out.
fn answer(key: &[u8], path: &str, message: &[u8]) -> Result<Vec<u8>, Error> {
    match path {
        "/v2.KeyManagementService/Status" => {
            Ok(StatusResponse { version: "v2".into(), healthz: "ok".into(), key_id: KEY_ID.into() }
                .encode_to_vec())
        }
        "/v2.KeyManagementService/Encrypt" => {
            let request = EncryptRequest::decode(message)?;
            let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
            openssl::rand::rand_bytes(&mut nonce)?;
            let text = &request.plaintext;
            let sealed =
                encrypt_aead(Cipher::aes_256_gcm(), key, Some(&nonce), &[], text, &mut tag)?;
            let ciphertext = [&nonce[..], &tag[..], &sealed[..]].concat();
            let annotations = HashMap::new();
            Ok(EncryptResponse { ciphertext, key_id: KEY_ID.into(), annotations }.encode_to_vec())
        }
        "/v2.KeyManagementService/Decrypt" => {
            let request = DecryptRequest::decode(message)?;
            if request.key_id != KEY_ID {
                return Err(format!("no key {:?}", request.key_id).into());
            }
            let (nonce, rest) = request.ciphertext.split_at_checked(NONCE).ok_or("too short")?;
            let (tag, sealed) = rest.split_at_checked(TAG).ok_or("too short")?;
            let plaintext =
                decrypt_aead(Cipher::aes_256_gcm(), key, Some(nonce), &[], sealed, tag)?;
            Ok(DecryptResponse { plaintext }.encode_to_vec())
        }
        _ => Err(format!("no method {path}").into()),
    }
}

/// One call of gRPC over HTTP/2: a prefix of five bytes before each message, the status in the trailers
/// (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md).
async fn call(
    key: &[u8],
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), Error> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    let mut received = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        received.extend_from_slice(&chunk);
    }
    if received.len() < 5 {
        return Err("a call without a message".into());
    }
    let compressed = received.get_u8() != 0;
    let length = received.get_u32() as usize;
    if compressed || length != received.len() {
        return Err("not one message as it is".into());
    }
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut stream = respond.send_response(head, false)?;
    let mut trailers = HeaderMap::new();
    match answer(key, &path, &received) {
        Ok(message) => {
            let mut framed = BytesMut::with_capacity(5 + message.len());
            framed.put_u8(0);
            framed.put_u32(u32::try_from(message.len())?);
            framed.extend_from_slice(&message);
            stream.send_data(framed.freeze(), false)?;
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
        }
        Err(error) => {
            eprintln!("{path}: {error}");
            // UNKNOWN
            trailers.insert("grpc-status", HeaderValue::from_static("2"));
        }
    }
    stream.send_trailers(trailers)?;
    Ok(())
}

async fn serve(key: &[u8], stream: UnixStream) -> Result<(), Error> {
    let mut connection = h2::server::handshake(stream).await?;
    // One call at a time while the connection goes on: an answer is sent by the connection that is polled here.
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let key = key.to_vec();
        tokio::task::spawn_local(async move {
            if let Err(error) = call(&key, request, respond).await {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(socket), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("usage: kms-plugin SOCKET KEY".into());
    };
    let key = std::fs::read(key)?;
    if key.len() != 32 {
        return Err("the key has not 32 bytes".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = UnixListener::bind(&socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let key = key.clone();
            tokio::task::spawn_local(async move {
                if let Err(error) = serve(&key, stream).await {
                    eprintln!("{error}");
                }
            });
        }
    })
}
