//! Which addresses a probe may be sent to. The address is the one that is dialled, so nothing can change in between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where probes may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Where a pod, a Service or a customer's door can be. Not ourselves, not the node's local services, not the cloud's
    /// metadata: a tenant who can write an `EndpointSlice` must not make the controller speak to those.
    Cluster,
    /// Also loopback and link-local: for a laptop and for tests.
    Anywhere,
}

/// Metadata and node services of clouds outside of the link-local range: Azure, Alibaba, AWS over IPv6, Oracle.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

impl Reach {
    /// Why this address must not be spoken to.
    pub(super) fn refuses(self, address: IpAddr) -> Option<&'static str> {
        match self {
            Self::Anywhere => None,
            Self::Cluster => refused(plain(address)),
        }
    }
}

fn refused(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unspecified() || address.is_multicast() || link_local {
        Some("an address that belongs to no pod")
    } else if METADATA.contains(&address) {
        Some("a cloud's metadata service")
    } else {
        None
    }
}

/// An IPv4 address in IPv6 clothes (mapped, compatible, NAT64, 6to4) as what it will become on the wire.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_do_not_reach_ourselves_the_node_or_the_cloud() {
        let refused = [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "::ffff:0.0.0.0",
        ];
        for address in refused {
            assert!(Reach::Cluster.refuses(address.parse().unwrap()).is_some(), "{address}");
            assert!(Reach::Anywhere.refuses(address.parse().unwrap()).is_none(), "{address}");
        }
        let allowed = [
            "10.244.1.7",
            "172.16.0.9",
            "192.168.1.1",
            "100.64.3.2",
            "192.0.2.1",
            "fd00:10:244::7",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
        ];
        for address in allowed {
            assert_eq!(Reach::Cluster.refuses(address.parse().unwrap()), None, "{address}");
        }
    }
}
