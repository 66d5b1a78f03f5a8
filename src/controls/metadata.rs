//! Metadata services of clouds: they give any process on a machine the machine's credentials.

use std::net::IpAddr;

/// A metadata service.
#[derive(Debug, Clone, Copy)]
pub struct MetadataService {
    address: &'static str,
    /// Who answers there.
    pub clouds: &'static str,
    /// Whether the cloud's name server answers at the same address, which pods' DNS asks: its port stays open.
    pub names: bool,
}

impl MetadataService {
    /// Its address.
    ///
    /// # Panics
    /// Never: a test parses every row.
    pub fn address(&self) -> IpAddr {
        self.address.parse().expect("a test parses every row")
    }
}

/// Metadata services by the documents of those who run them. AWS' name server, 169.254.169.253, is none.
pub const METADATA_SERVICES: &[MetadataService] = &[
    MetadataService {
        address: "169.254.169.254",
        clouds: "AWS, Azure, Google Cloud, Oracle, OpenStack and others",
        // Google Cloud and Oracle answer for names here, too; a site that needs it opens the port itself.
        names: false,
    },
    MetadataService { address: "168.63.129.16", clouds: "Azure (WireServer)", names: true },
    MetadataService { address: "100.100.100.200", clouds: "Alibaba Cloud", names: false },
    MetadataService { address: "192.0.0.192", clouds: "Oracle, first generation", names: false },
    MetadataService { address: "169.254.42.42", clouds: "Scaleway", names: false },
    MetadataService { address: "fd00:ec2::254", clouds: "AWS", names: false },
    // Also the name server of machines that have IPv6 alone.
    MetadataService { address: "fd20:ce::254", clouds: "Google Cloud", names: true },
    MetadataService { address: "fd00:42::42", clouds: "Scaleway", names: false },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_one_and_names_stay() {
        let mut seen = std::collections::BTreeSet::new();
        for &row in METADATA_SERVICES {
            assert!(seen.insert(row.address()), "{} stands twice", row.address);
            assert_ne!(row.address, "169.254.169.253", "AWS' name server");
        }
        for needed in ["168.63.129.16", "100.100.100.200", "192.0.0.192", "fd20:ce::254"] {
            assert!(seen.contains(&needed.parse().unwrap()), "{needed}");
        }
    }
}
