// Each item's video holds both arms side by side. It is the one clock: its halves are drawn into two panes, which
// therefore show the same frame at any moment. Positions are whole frames.
"use strict";
for (const player of document.querySelectorAll(".player")) {
  const video = player.querySelector("video");
  const panes = [...player.querySelectorAll("canvas")];
  const whole = document.createElement("canvas");
  const bar = player.querySelector(".transport");
  const rate = Number(player.dataset.rate);
  const slider = bar.querySelector("input");
  const label = bar.querySelector("output");
  const playButton = bar.querySelector("[data-do=play]");
  let playing = false;
  let ready = false;

  const lastFrame = () => (Number.isFinite(video.duration) ? Math.max(0, Math.round(video.duration * rate) - 1) : 0);
  const frameNow = () => Math.min(lastFrame(), Math.floor(video.currentTime * rate + 0.01));
  const fit = (canvas, width, height) => {
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  };
  const draw = () => {
    const width = Math.floor(video.videoWidth / 2);
    const height = video.videoHeight;
    // Taken from the video once: it plays on, and a second look may find the next frame.
    fit(whole, video.videoWidth, height);
    whole.getContext("2d").drawImage(video, 0, 0);
    panes.forEach((pane, side) => {
      fit(pane, width, height);
      pane.getContext("2d").drawImage(whole, side * width, 0, width, height, 0, 0, width, height);
    });
    slider.value = String(frameNow());
    label.textContent = `frame ${frameNow() + 1} / ${lastFrame() + 1}`;
  };
  // The middle of a frame: its edges round to either neighbour. `seeked` draws it.
  const seek = (frame) => { video.currentTime = (Math.max(0, Math.min(lastFrame(), frame)) + 0.5) / rate; };
  const show = (isPlaying) => {
    playing = isPlaying;
    playButton.textContent = playing ? "⏸" : "▶";
    playButton.setAttribute("aria-label", playing ? "Pause both" : "Play both");
  };
  const stop = () => {
    video.pause();
    show(false);
    seek(frameNow());
  };
  const step = () => {
    if (!playing) return;
    draw();
    if (video.ended) { stop(); return; }
    requestAnimationFrame(step);
  };
  const play = async () => {
    if (frameNow() >= lastFrame()) seek(0);
    show(true);
    try {
      await video.play();
      step();
    } catch {
      stop();
    }
  };
  const toggle = () => (playing ? stop() : play());
  const begin = () => {
    if (ready) return;
    ready = true;
    slider.max = String(lastFrame());
    // Without scripts the video keeps its own controls; from here on the panes and one bar stand for it.
    video.hidden = true;
    bar.hidden = false;
    player.querySelector(".panes").hidden = false;
    // At rest the panes show the moment of the prediction.
    seek(Number(player.dataset.start));
  };

  playButton.addEventListener("click", toggle);
  for (const pane of panes) pane.addEventListener("click", toggle);
  bar.querySelector("[data-do=back]").addEventListener("click", () => { stop(); seek(frameNow() - 1); });
  bar.querySelector("[data-do=forward]").addEventListener("click", () => { stop(); seek(frameNow() + 1); });
  slider.addEventListener("input", () => { if (playing) stop(); seek(Number(slider.value)); });
  video.addEventListener("seeked", draw);
  video.addEventListener("loadeddata", begin);
  // A page of hundreds of videos decodes those that somebody looks at.
  new IntersectionObserver((seen, observer) => {
    if (!seen.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    video.preload = "auto";
    video.load();
  }, { rootMargin: "200px" }).observe(player);
}

// A link into a folded part opens it.
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement?.closest("details")) {
    if (part instanceof HTMLDetailsElement) part.open = true;
  }
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
