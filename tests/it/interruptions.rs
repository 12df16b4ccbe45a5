//! Every run of every step is done twice, as after a death before the record, with Azure's usual lags. Deaths and faults at
//! single points are in `crash` and `faults`.

use azure_sim::Propagation;

use crate::steps::new_account;
use crate::steps::world::World;

#[tokio::test]
async fn a_worker_that_dies_before_every_record_leaves_what_an_undisturbed_one_does() {
    let calm = World::instant().await;
    calm.run(&new_account(&calm)).await.must_succeed();
    for propagation in [Propagation::instant(), Propagation::default()] {
        let mut world = World::new(propagation).await;
        world.forgetful = true;
        world.run(&new_account(&world)).await.must_succeed();
        assert_eq!(world.changes(), calm.changes());
    }
}
