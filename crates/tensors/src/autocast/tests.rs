use tch::{Device, Kind, Tensor};

use super::Autocast;
use crate::fixtures::{distance, leaf, randn};

fn product_kind() -> Kind {
    let a = randn(&[4, 4], 1);
    a.matmul(&a).kind()
}

fn active() -> Option<Kind> {
    Autocast::active(Device::Cpu).unwrap()
}

#[test]
fn products_are_narrow_inside_the_guard_and_only_there() {
    assert_eq!((active(), product_kind()), (None, Kind::Float));
    {
        let _narrow = Autocast::enable(Device::Cpu, Kind::BFloat16).unwrap();
        assert_eq!((active(), product_kind()), (Some(Kind::BFloat16), Kind::BFloat16));
        {
            let _half = Autocast::enable(Device::Cpu, Kind::Half).unwrap();
            assert_eq!((active(), product_kind()), (Some(Kind::Half), Kind::Half));
            let _off = Autocast::disable(Device::Cpu).unwrap();
            assert_eq!((active(), product_kind()), (None, Kind::Float));
        }
        assert_eq!((active(), product_kind()), (Some(Kind::BFloat16), Kind::BFloat16));
        // As the module's text says of the CPU.
        let narrow = randn(&[2, 3], 2).to_kind(Kind::BFloat16);
        assert_eq!(narrow.softmax(-1, None::<Kind>).kind(), Kind::BFloat16);
        assert_eq!(narrow.mse_loss(&narrow, tch::Reduction::Mean).kind(), Kind::Float);
    }
    assert_eq!((active(), product_kind()), (None, Kind::Float));
}

#[test]
fn a_panic_ends_autocast() {
    let outcome = std::panic::catch_unwind(|| {
        let _narrow = Autocast::enable(Device::Cpu, Kind::BFloat16).unwrap();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(outcome.is_err());
    assert_eq!((active(), product_kind()), (None, Kind::Float));
}

#[test]
fn gradients_reach_f32_weights_and_a_changed_weight_is_cast_anew() {
    let (x, w) = (randn(&[8, 4], 3), leaf(&[4, 4], 4));
    let forward = || {
        let _narrow = Autocast::enable(Device::Cpu, Kind::BFloat16).unwrap();
        x.matmul(&w)
    };
    let y = forward();
    y.to_kind(Kind::Float).sum(Kind::Float).backward();
    assert_eq!(w.grad().kind(), Kind::Float);
    let want =
        x.sum_dim_intlist([0i64].as_slice(), false, Kind::Float).unsqueeze(1).expand([4, 4], false);
    // bf16 keeps 8 bits: a sum of 8 numbers of about 1 is off by up to 8 * 2^-8.
    assert!(distance(&w.grad(), &want) < 0.05);
    tch::no_grad(|| {
        let _ = w.shallow_clone().fill_(0.0);
    });
    assert_eq!(distance(&forward(), &Tensor::zeros([8, 4], (Kind::Float, Device::Cpu))), 0.0);
}

#[test]
fn other_kinds_and_devices_are_refused() {
    let refused = |device, kind| Autocast::enable(device, kind).unwrap_err().to_string();
    let message = "autocast kind must be bf16 or f16, got Float";
    assert_eq!(refused(Device::Cpu, Kind::Float), message);
    assert!(refused(Device::Mps, Kind::BFloat16).contains("Mps"));
    assert_eq!(active(), None);
}
