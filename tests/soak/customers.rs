//! Customers who ask by the gateway all the time, and where their records are.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::support::shop::Shop;
use crate::support::{said, until};

/// Of each shop: half on new connections, half on standing ones, and one in twenty takes 800 ms.
const FRESH: u32 = 125;
const KEEPALIVE: (u32, u32) = (12, 125);
const SLOW: u8 = 5;

/// Customers of one shop.
pub(crate) struct Customers {
    child: Child,
    pub(crate) log: PathBuf,
}

impl Customers {
    /// Returns when the first of them was answered. They ask for nothing that a bad version of this soak breaks: what fails is ours.
    pub(crate) fn start(shop: &Shop, folder: &Path, longest: Duration) -> Result<Self> {
        let (address, host) = (shop.bed.gateway()?, shop.host());
        let url = format!("http://{address}");
        until(Duration::from_secs(40), || {
            said(shop.bed.inside("curl").args(["-sf", "-m", "1", "-H", &format!("Host: {host}"), &format!("{url}/products")]))
        })?;
        let log = folder.join(format!("{}.csv", shop.ns));
        let mut command = shop.bed.inside(shop.bed.built("examples/load"));
        command.args(["--target", &url, "--host", &host, "--path", "/products", "--path", "POST /orders"]);
        let numbers = [("--fresh", FRESH), ("--keepalive", KEEPALIVE.0), ("--keepalive-rate", KEEPALIVE.1), ("--slow", u32::from(SLOW))];
        for (name, number) in numbers {
            command.args([name, &number.to_string()]);
        }
        command.args(["--duration", &format!("{}s", longest.as_secs()), "--quiet", "--log"]).arg(&log);
        // A child that is killed with this program's own process group must not outlive it as somebody's load.
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let customers = Self { child, log };
        until(Duration::from_secs(10), || {
            let text = std::fs::read_to_string(&customers.log).unwrap_or_default();
            ensure!(text.contains(",200,v1,"), "no customer of {host} was answered at {address}");
            Ok(())
        })?;
        Ok(customers)
    }

    /// Ends them; a request that is under way is still answered and written down.
    pub(crate) fn stop(mut self) -> Result<PathBuf> {
        said(std::process::Command::new("kill").arg(self.child.id().to_string()))?;
        ensure!(self.child.wait()?.success(), "the load generator failed");
        Ok(self.log.clone())
    }
}

impl Drop for Customers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
