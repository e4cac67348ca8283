//! A crash at every write of five histories: the end is the same, and nothing that holds is ever broken.

#[tokio::test(start_paused = true)]
async fn golden() {
    for script in super::script::Script::ALL {
        let wall = std::time::Instant::now();
        let town = super::town::Town::open(7).await;
        let from = town.api.writes("haldane").len();
        town.diary.begin();
        script.play(&town).await;
        println!("{}\n{script}: {} writes, {:?} wall, {:?} virtual, {} requests", town.diary.text(), town.api.writes("haldane").len() - from, wall.elapsed(), town.api.clock().elapsed(), town.api.log().len());
    }
}
