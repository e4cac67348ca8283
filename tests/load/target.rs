//! Who may be asked: only addresses that belong to this machine's test clusters.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// A target that has passed the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target(SocketAddr);

/// The test nodes live in the documentation ranges (RFC 5737), their pods and Services in the two private ones, which are
/// those of the test clusters; every other private address may be a neighbour's.
const OWN: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(10, 88, 0, 0), 16),
    (Ipv4Addr::new(10, 96, 0, 0), 16),
];

/// Clouds answer here with a machine's credentials.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

impl Target {
    pub(crate) fn address(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.strip_prefix("http://").ok_or("http://IP:PORT, plain HTTP only")?;
        let address: SocketAddr =
            address.trim_end_matches('/').parse().map_err(|_| format!("{address:?} is not IP:PORT (names are refused)"))?;
        let service_host = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok());
        if is_ours(address.ip()) || service_host.is_some_and(|host| beside(address.ip(), host)) {
            Ok(Self(address))
        } else {
            Err(format!("{} is not one of this project's own test addresses; this program never asks anybody else", address.ip()))
        }
    }
}

/// In a pod: the Services of the cluster that it runs in, as far as their range can be told from the API server's own (a /16).
fn beside(ip: IpAddr, service_host: Ipv4Addr) -> bool {
    matches!(ip, IpAddr::V4(ip) if service_host.is_private() && (ip.to_bits() ^ service_host.to_bits()) >> 16 == 0)
}

fn is_ours(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let own = |&(net, bits): &(Ipv4Addr, u8)| ((ip.to_bits() ^ net.to_bits()) >> (32 - bits)) == 0;
            (ip.is_link_local() && ip != METADATA) || OWN.iter().any(own)
        }
        IpAddr::V6(ip) => {
            let documentation = matches!(ip.segments(), [0x2001, 0x0db8, ..]);
            ip.is_loopback() || ip.is_unicast_link_local() || documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_accepted() {
        for address in
            ["127.0.0.1:80", "192.0.2.1:8000", "198.51.100.7:80", "10.96.3.4:80", "10.88.0.9:8080", "[::1]:80", "[2001:db8::1]:80"]
        {
            assert!(format!("http://{address}").parse::<Target>().is_ok(), "{address} was refused");
        }
    }

    #[test]
    fn a_pod_may_ask_the_services_of_its_own_cluster() {
        let host = Ipv4Addr::new(10, 43, 0, 1);
        assert!(beside(IpAddr::from([10, 43, 7, 7]), host));
        assert!(!beside(IpAddr::from([10, 44, 0, 1]), host));
        assert!(!beside(IpAddr::from([8, 8, 4, 4]), Ipv4Addr::new(8, 8, 8, 8)));
    }

    #[test]
    fn everybody_else_is_refused() {
        let foreign = [
            "8.8.8.8:80",
            "192.0.3.1:80",
            "192.168.1.1:80",
            "10.0.0.1:80",
            "10.97.0.1:80",
            "172.16.0.1:80",
            "169.254.169.254:80",
            "0.0.0.0:80",
            "[2606:4700::1]:80",
            "[fd00::1]:80",
            "[::ffff:8.8.8.8]:80",
            "shop.example.com:80",
            "localhost:80",
        ];
        for address in foreign {
            assert!(format!("http://{address}").parse::<Target>().is_err(), "{address} was accepted");
        }
        assert!("https://127.0.0.1:443".parse::<Target>().is_err());
        assert!("127.0.0.1:80".parse::<Target>().is_err());
    }
}
