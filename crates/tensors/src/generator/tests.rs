use tch::{Device, Kind, Tensor};

use super::{RestoreGenerators, generator_state, seed_generator, set_generator_state};
use crate::fixtures::{floats, generator_lock};

fn draw() -> Vec<f64> {
    floats(&Tensor::rand([5], (Kind::Float, Device::Cpu)))
}

#[test]
fn a_state_put_back_draws_the_same_numbers() {
    let _alone = generator_lock();
    seed_generator(7);
    let first = draw();
    let state = generator_state(Device::Cpu).unwrap();
    let second = draw();
    assert_ne!(first, second);
    set_generator_state(Device::Cpu, &state).unwrap();
    assert_eq!(draw(), second);
    seed_generator(7);
    assert_eq!(draw(), first);
}

#[test]
fn a_rewound_generator_goes_on_where_it_was_even_after_a_panic() {
    let _alone = generator_lock();
    seed_generator(8);
    let states = RestoreGenerators::of(&[Device::Cpu]).unwrap();
    let (first, now) = (draw(), generator_state(Device::Cpu).unwrap());
    let outcome = std::panic::catch_unwind(|| {
        let _rewound = RestoreGenerators::rewind(&states).unwrap();
        assert_eq!(draw(), first);
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    assert_eq!(generator_state(Device::Cpu).unwrap(), now);
}

#[test]
fn what_is_no_state_is_an_error() {
    let _alone = generator_lock();
    let before = generator_state(Device::Cpu).unwrap();
    for wrong in [
        Tensor::zeros([3], (Kind::Uint8, Device::Cpu)),
        Tensor::zeros([5056], (Kind::Float, Device::Cpu)),
    ] {
        assert!(set_generator_state(Device::Cpu, &wrong).is_err());
    }
    assert_eq!(generator_state(Device::Cpu).unwrap(), before);
    assert!(generator_state(Device::Vulkan).unwrap_err().to_string().contains("Vulkan"));
    if !tch::Cuda::is_available() {
        assert!(generator_state(Device::Cuda(0)).is_err());
    }
}
