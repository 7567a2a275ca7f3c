use tch::{Cuda, Device, Kind};

use super::{parse_device, parse_kind};

fn refused(text: &str, part: &str) {
    let message = parse_device(text).unwrap_err().to_string();
    assert!(message.contains(part) && message.contains(&format!("`{text}`")), "{message}");
}

#[test]
fn devices_are_read_from_text() {
    assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
    for text in [
        "",
        "CPU",
        "cpu:0",
        "gpu",
        "cuda:",
        "cuda:-1",
        "cuda:+1",
        "cuda:x",
        "cuda:99999999999999999999",
    ] {
        refused(text, "cpu, cuda or cuda:N");
    }
    match Cuda::device_count() {
        0 => refused("cuda", "libtorch finds no CUDA device here"),
        n => {
            assert_eq!(parse_device("cuda").unwrap(), Device::Cuda(0));
            refused(&format!("cuda:{n}"), &format!("at most cuda:{}", n - 1));
        }
    }
}

#[test]
fn kinds_are_read_from_text() {
    for (texts, kind) in [
        (["f32", "float32"], Kind::Float),
        (["bf16", "bfloat16"], Kind::BFloat16),
        (["f16", "float16"], Kind::Half),
        (["f64", "float64"], Kind::Double),
    ] {
        assert!(texts.iter().all(|text| parse_kind(text).unwrap() == kind));
    }
    let message = parse_kind("int8").unwrap_err().to_string();
    assert_eq!(message, "kind must be f32, bf16, f16 or f64, got `int8`");
}
