//! A port of this machine that leads to one of a pod, through the API server, with the user's own rights.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// How long a node takes to say that nobody listens, at most.
const REFUSAL: Duration = Duration::from_secs(2);

/// A forwarded port. It ends with this value.
pub(crate) struct Forward {
    pub(crate) at: SocketAddr,
    api: Api<Pod>,
    pod: String,
    port: u16,
    trouble: Arc<Mutex<Option<String>>>,
    _task: JoinSet<()>,
}

impl Forward {
    /// One to this port of this pod.
    pub(crate) async fn open(api: Api<Pod>, pod: &str, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port of this machine can be listened on")?;
        let at = listener.local_addr().context("a port of this machine")?;
        let trouble = Arc::<Mutex<Option<String>>>::default();
        let mut task = JoinSet::new();
        let (name, there, told) = (pod.to_owned(), api.clone(), trouble.clone());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (there, name, told) = (there.clone(), name.clone(), told.clone());
                connections.spawn(async move {
                    if let Err(said) = carry(&there, &name, port, stream).await {
                        told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(said);
                    }
                });
            }
        });
        Ok(Self { at, api, pod: pod.to_owned(), port, trouble, _task: task })
    }

    /// What kept a connection from the pod, in a few words. A node says that a moment after it has taken the connection.
    pub(crate) async fn trouble(&self) -> Option<String> {
        let known = || self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for _ in 0..10 {
            if let Some(said) = known() {
                return Some(said);
            }
            tokio::time::sleep(REFUSAL / 10).await;
        }
        None
    }

    /// Whether the pod takes a connection on the port: this machine's end of it always does.
    pub(crate) async fn is_taken(&self) -> Result<(), String> {
        let mut forwarder = self.api.portforward(&self.pod, &[self.port]).await.map_err(|error| said(&error))?;
        // Held open while the node tries.
        let _stream = forwarder.take_stream(self.port);
        let error = forwarder.take_error(self.port);
        match timeout(REFUSAL, async { error?.await }).await {
            Ok(Some(why)) => Err(why),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

/// Carries one connection until either side ends it.
async fn carry(api: &Api<Pod>, pod: &str, port: u16, mut local: TcpStream) -> Result<(), String> {
    let mut forwarder = api.portforward(pod, &[port]).await.map_err(|error| said(&error))?;
    let (Some(mut remote), Some(error)) = (forwarder.take_stream(port), forwarder.take_error(port)) else {
        return Err("the API server forwards another port".to_owned());
    };
    let carried = async {
        // However it ends, whoever asked hears of it on their own side.
        let _ = copy_bidirectional(&mut local, &mut remote).await;
    };
    tokio::pin!(error, carried);
    tokio::select! {
        why = &mut error => match why {
            Some(why) => return Err(why),
            None => carried.await,
        },
        () = &mut carried => {
            // A refusal and the end of the stream come together.
            if let Ok(Some(why)) = timeout(REFUSAL / 4, error).await {
                return Err(why);
            }
        }
    }
    Ok(())
}

fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
