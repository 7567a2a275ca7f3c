use super::*;

#[test]
fn the_disk_must_hold_the_largest_wheel_twice_or_beside_what_is_unpacked() {
    let wheel = |bytes, kept_bytes| Wheel { bytes, kept_bytes, ..crate::wheels::WHEELS[0] };
    assert_eq!(needed_bytes(&[wheel(100, 10), wheel(20, 5)]), 200);
    assert_eq!(needed_bytes(&[wheel(100, 300), wheel(20, 5)]), 405);
}
