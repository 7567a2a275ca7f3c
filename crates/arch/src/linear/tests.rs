use super::*;
use crate::testing::{max_diff, normal, rng};

#[test]
fn each_member_of_a_stack_multiplies_its_own_rows_by_its_own_matrix() {
    let mut rng = rng(1);
    let (x, weight) = (normal(&[6, 4, 5], &mut rng), normal(&[3, 7, 5], &mut rng));
    for bias in [None, Some(normal(&[3, 7], &mut rng))] {
        let own = |i| bias.as_ref().map(|bias: &Tensor| bias.get(i));
        let parts: Vec<Tensor> =
            (0..3).map(|i| x.narrow(0, 2 * i, 2).linear(&weight.get(i), own(i).as_ref())).collect();
        let stack = Linear { weight: weight.shallow_clone(), bias };
        let got = stack.forward(&x).unwrap();
        // Five f32 products of numbers of size 1, perhaps summed in another order.
        assert!(max_diff(&got, &Tensor::cat(&parts, 0)) < 2e-6);
    }
}
