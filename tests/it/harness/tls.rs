//! A server behind TLS whom nobody knows.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Its certificate is for its address, valid for a hundred years, and signed by itself: `openssl req -x509 -newkey ec …`.
pub(crate) struct Stranger {
    pub address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Stranger {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("the port's number");
        let certificate = CertificateDer::from(&include_bytes!("stranger/certificate.der")[..]);
        let key = PrivateKeyDer::try_from(&include_bytes!("stranger/key.der")[..]).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("certificate and key fit");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let accepting = tokio::spawn(async move {
            let mut trusting = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes on in spite of the certificate gets no answer, and its test runs out of time.
                trusting.extend(acceptor.accept(stream).await);
            }
        });
        Self { address, accepting }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
