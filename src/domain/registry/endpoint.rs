//! Internal destinations that an agent may reach.

// A plain value of the core library: nothing is contacted.
use core::net::IpAddr;

use super::values::{Form, Problem};

/// Internal networks that may be allowed. Link-local ones are left out: cloud metadata lives there.
const INTERNAL: &[(&str, u8)] =
    &[("10.0.0.0", 8), ("172.16.0.0", 12), ("192.168.0.0", 16), ("100.64.0.0", 10), ("fc00::", 7)];

/// An internal destination, `CIDR:port`.
pub(super) fn endpoint(text: &str) -> Form<String> {
    let malformed =
        || Problem::invalid(format!("`{text}` is no `CIDR:port`"), "write it like `10.0.0.5/32:8443`");
    let (cidr, port) = text.rsplit_once(':').ok_or_else(malformed)?;
    let (address, length) = cidr.split_once('/').ok_or_else(malformed)?;
    let address: IpAddr = address.parse().map_err(|_| malformed())?;
    let length: u8 = length.parse().map_err(|_| malformed())?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    let (bits, width) = bits_of(address);
    if port == 0 || length > width {
        return Err(malformed());
    }
    if bits != masked(bits, width, length) {
        return Err(Problem::invalid(
            format!("`{cidr}` has bits set beyond its /{length}"),
            format!("write `/{width}` for a single address"),
        ));
    }
    let internal = INTERNAL.iter().any(|(network, network_length)| {
        network.parse().is_ok_and(|network: IpAddr| {
            let (network_bits, network_width) = bits_of(network);
            network_width == width
                && length >= *network_length
                && masked(bits, width, *network_length) == network_bits
        })
    });
    if !internal {
        return Err(Problem::invalid(
            format!("`{cidr}` does not lie within 10/8, 172.16/12, 192.168/16, 100.64/10 or fc00::/7"),
            "list internal addresses only; public ones are reached on `ports`, link-local ones never",
        ));
    }
    Ok(text.to_owned())
}

/// The bits of an address, and how many there are.
fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The first `length` of `width` bits.
fn masked(bits: u128, width: u8, length: u8) -> u128 {
    let rest = u32::from(width - length);
    bits.checked_shr(rest).and_then(|high| high.checked_shl(rest)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
