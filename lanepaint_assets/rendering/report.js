// Plays all videos of a clip in step: one transport bar a section, positions in whole frames.
"use strict";
for (const section of document.querySelectorAll("section.clip")) {
  const videos = [...section.querySelectorAll("video")];
  const bar = section.querySelector(".transport");
  if (!bar || videos.length === 0) continue;

  const rate = Number(section.dataset.rate);
  const slider = bar.querySelector("input");
  const label = bar.querySelector("output");
  const playButton = bar.querySelector("[data-do=play]");
  // The clock of the others; a video that cannot be played must not stop them.
  const leader = () => videos.find((video) => !video.error) ?? videos[0];
  let playing = false;
  let started = false;

  // Without scripts each video keeps its own controls; with them one bar serves all.
  bar.hidden = false;
  for (const video of videos) video.controls = false;

  const lastFrame = () => {
    const lengths = videos.filter((v) => Number.isFinite(v.duration)).map((v) => Math.round(v.duration * rate));
    return lengths.length ? Math.min(...lengths) - 1 : 0;
  };
  const show = (frame) => {
    slider.value = String(frame);
    label.textContent = `frame ${frame + 1} / ${lastFrame() + 1}`;
  };
  const frameNow = () => Math.min(lastFrame(), Math.floor(leader().currentTime * rate + 0.01));
  const seek = (frame) => {
    const wanted = Math.max(0, Math.min(lastFrame(), frame));
    // The middle of a frame: its edges round to either neighbour.
    for (const video of videos) video.currentTime = (wanted + 0.5) / rate;
    show(wanted);
  };
  const stop = () => {
    playing = false;
    for (const video of videos) video.pause();
    playButton.textContent = "▶";
    playButton.setAttribute("aria-label", "Play all");
    seek(frameNow());
  };
  const step = () => {
    if (!playing) return;
    if (leader().ended || frameNow() >= lastFrame()) { stop(); return; }
    for (const video of videos) {
      if (Math.abs(video.currentTime - leader().currentTime) > 0.5 / rate) video.currentTime = leader().currentTime;
    }
    show(frameNow());
    requestAnimationFrame(step);
  };
  const play = async () => {
    if (frameNow() >= lastFrame()) seek(0);
    playing = true;
    playButton.textContent = "⏸";
    playButton.setAttribute("aria-label", "Pause all");
    await Promise.allSettled(videos.map((video) => video.play()));
    step();
  };

  // At rest the players show the moment of the prediction.
  const begin = () => {
    if (started || videos.some((video) => video.readyState < 1 && !video.error)) return;
    started = true;
    slider.max = String(lastFrame());
    seek(Number(section.dataset.start));
  };

  playButton.addEventListener("click", () => (playing ? stop() : play()));
  bar.querySelector("[data-do=back]").addEventListener("click", () => { stop(); seek(frameNow() - 1); });
  bar.querySelector("[data-do=forward]").addEventListener("click", () => { stop(); seek(frameNow() + 1); });
  slider.addEventListener("input", () => { if (playing) stop(); seek(Number(slider.value)); });
  for (const video of videos) {
    video.addEventListener("loadedmetadata", begin);
    video.addEventListener("error", begin);
    video.addEventListener("click", () => (playing ? stop() : play()));
  }
  begin();
}
