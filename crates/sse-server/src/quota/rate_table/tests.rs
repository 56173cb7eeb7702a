//! Buckets by a clock that the tests set.

use governor::clock::FakeRelativeClock;

use super::*;

fn table(rate: &str, keys_max: usize) -> RateTable<FakeRelativeClock> {
    let rate = Rate::parse_count(rate).or_else(|_| Rate::parse_bytes(rate));
    RateTable::with_clock(rate.unwrap(), keys_max, FakeRelativeClock::default())
}

fn key(name: &str) -> QuotaKey {
    let bytes = name.bytes().map(u64::from);
    QuotaKey::Principal(bytes.fold(0, |number, byte| number * 256 + byte))
}

#[test]
fn a_key_may_use_its_burst_and_then_its_rate() {
    let table = table("10/s", 9);
    assert_eq!(table.take(&key("a"), 10), Ok(()));
    let Err(Remedy::WaitFor(wait)) = table.take(&key("a"), 3) else {
        panic!("the bucket is empty")
    };
    assert_eq!(wait, Duration::from_millis(300));
    assert_eq!(table.take(&key("b"), 10), Ok(()));
    table.clock.advance(Duration::from_millis(299));
    assert!(table.take(&key("a"), 3).is_err());
    table.clock.advance(Duration::from_millis(1));
    assert_eq!(table.take(&key("a"), 3), Ok(()));
    assert!(table.take(&key("a"), 1).is_err());
    assert_eq!(table.take(&key("a"), 0), Ok(()));
}

#[test]
fn more_than_the_burst_is_never_possible() {
    let table = table("10/m", 9);
    assert_eq!(table.take(&key("a"), 11), Err(Remedy::AtMost(10)));
    assert_eq!(table.take(&key("a"), u64::MAX), Err(Remedy::AtMost(10)));
    assert_eq!(table.take(&key("a"), 10), Ok(()));
}

#[test]
fn large_rates_of_bytes_are_exact_to_a_thousandth() {
    for rate in [
        "1/s", "999999/s", "1MiB/s", "1GiB/s", "1TiB/s", "1TiB/m", "100MiB/h",
    ] {
        let rate = Rate::parse_bytes(rate).unwrap();
        let table = RateTable::with_clock(rate, 9, FakeRelativeClock::default());
        let amount = rate.amount().get();
        assert_eq!(table.take(&key("a"), amount), Ok(()), "{rate}");
        table.clock.advance(rate.period() * 998 / 1000);
        assert!(table.take(&key("a"), amount).is_err(), "{rate}");
        table.clock.advance(rate.period() * 3 / 1000);
        assert_eq!(table.take(&key("a"), amount), Ok(()), "{rate}");
    }
}

#[test]
fn keys_are_bounded_and_further_ones_share_a_bucket() {
    let table = table("2/s", 3);
    for number in 0..3 {
        assert_eq!(table.take(&key(&number.to_string()), 1), Ok(()));
    }
    for number in 3..5 {
        assert_eq!(table.take(&key(&number.to_string()), 1), Ok(()));
    }
    assert!(table.take(&key("5"), 1).is_err());
    assert_eq!(table.take(&key("0"), 1), Ok(()));
    assert_eq!(table.limiter.len(), 3);
}

#[test]
fn networks_take_no_bucket_from_principals() {
    let table = table("1/s", 3);
    let network = |number: u32| {
        let address = std::net::Ipv4Addr::from_bits(number);
        QuotaKey::Client(std::net::IpAddr::from(address).into())
    };
    for number in 0..4 {
        assert_eq!(table.take(&network(number), 1), Ok(()));
    }
    assert!(table.take(&network(5), 1).is_err());
    for number in ["0", "1", "2"] {
        assert_eq!(table.take(&key(number), 1), Ok(()));
    }
    assert_eq!(table.take(&key("3"), 1), Ok(()));
    assert!(table.take(&key("4"), 1).is_err());
}

#[test]
fn keys_whose_buckets_are_full_make_room() {
    let table = table("2/s", 3);
    for number in 0..3 {
        assert_eq!(table.take(&key(&number.to_string()), 2), Ok(()));
    }
    table.clock.advance(Duration::from_secs(2));
    for number in 3..6 {
        assert_eq!(table.take(&key(&number.to_string()), 2), Ok(()));
    }
    assert_eq!(table.limiter.len(), 3);
}
