// Plays one asset: while its job still runs from the playlists that grow, and from the whole ladder
// as soon as that is there, without a break. What plays is asked of `<this page>/state`.
"use strict";

(() => {
  const POLL_MS = 2000;
  const FIRST_POLL_MS = 250; // who opens the page right after the upload waits for a second of work
  const SLOW_POLL_MS = 10000; // after errors, and of pages that nobody looks at
  const SEEK_S = 5;
  const MIME = "application/vnd.apple.mpegurl";

  const root = document.documentElement;
  const video = document.getElementById("video");
  const message = document.getElementById("message");

  let hls = null; // the player that feeds the element; null: the browser plays by itself
  let playing = null; // what is being played: "growing" or "ready"
  let stopped = false; // nothing more can be done: the message says why
  let asked = 0; // how often
  let recovered = 0; // when decoding was last begun anew

  const say = (text) => {
    if (message.textContent !== text) message.textContent = text;
  };

  const giveUp = (text) => {
    stopped = true;
    say(text);
  };

  // --- what plays

  async function ask() {
    const answer = await fetch(`${location.pathname.replace(/\/$/, "")}/state`, {
      credentials: "omit",
    });
    if (answer.ok) return answer.json();
    if (answer.status === 403) giveUp("This link has expired. Ask for a new one where you found it.");
    if (answer.status === 404) giveUp("This video does not exist any more, or it is private now.");
    throw new Error(`state: ${answer.status}`);
  }

  async function poll() {
    let wait = document.hidden && video.paused ? SLOW_POLL_MS : POLL_MS;
    // Often at first, ever more seldom for who waits in a long queue.
    if (!playing) wait = Math.min(wait, FIRST_POLL_MS * 1.2 ** asked++);
    try {
      const found = await ask();
      if (found.poster && !video.poster) video.poster = found.poster;
      show(found);
      if (found.state === "ready" || found.state === "failed") return;
    } catch {
      wait = SLOW_POLL_MS;
      if (!playing && !stopped) say("The server does not answer. Trying again …");
    }
    if (!stopped) setTimeout(poll, wait);
  }

  function show({ state, hls: stream, file, poster }) {
    if (state === "failed") {
      // What was advanced may still be in store: let it play to its end.
      if (!playing) giveUp("This video could not be made.");
    } else if (state === "waiting") {
      say("This video is being prepared. It starts as soon as its first seconds are there.");
    } else if (stream && playing !== state) {
      if (playing) switchTo(stream);
      else open(stream);
      playing = state;
    } else if (!stream && file) {
      say("");
      playing = state;
      video.src = file;
      begin();
    } else if (!stream) {
      giveUp(poster ? "" : "This has nothing to play."); // a picture stands still
    }
  }

  // --- playing

  function makeHls(more) {
    // Fragments are passed on as they are, so that a worker has nothing to do.
    return new Hls({ enableWorker: false, ...more });
  }

  function open(url) {
    say("");
    if (window.Hls && Hls.isSupported()) {
      hls = makeHls({});
      listen(hls);
      hls.loadSource(url);
      hls.attachMedia(video);
    } else if (video.canPlayType(MIME)) {
      video.src = url;
    } else {
      giveUp("This browser cannot play this video. Try a newer one.");
      return;
    }
    begin();
  }

  function begin() {
    if (!new URLSearchParams(location.search).has("autoplay")) return;
    video.muted = true; // browsers let nothing else begin by itself
    video.play().catch(() => {});
  }

  // A player reads the list of qualities once. A second one reads the new list, and takes over the
  // element with all that lies in store when it knows where everything is: nothing is shown twice.
  function switchTo(url) {
    if (!hls) {
      switchNative(url);
      return;
    }
    if (video.ended) return; // all of it was seen
    const old = hls;
    const next = makeHls({
      startPosition: video.currentTime,
      abrEwmaDefaultEstimate: old.bandwidthEstimate,
    });
    const wanted = new Set([Hls.Events.LEVEL_LOADED]);
    next.once(Hls.Events.MANIFEST_PARSED, (_, data) => {
      if (data.audioTracks.length) wanted.add(Hls.Events.AUDIO_TRACK_LOADED);
    });
    const take = (event) => {
      wanted.delete(event);
      if (wanted.size) return;
      next.off(Hls.Events.LEVEL_LOADED, take);
      next.off(Hls.Events.AUDIO_TRACK_LOADED, take);
      hls = next;
      const media = old.transferMedia();
      old.destroy();
      next.attachMedia(media ?? video);
      root.dataset.switched = "";
    };
    next.on(Hls.Events.LEVEL_LOADED, take);
    next.on(Hls.Events.AUDIO_TRACK_LOADED, take);
    listen(next);
    next.loadSource(url);
  }

  function switchNative(url) {
    const { currentTime, paused } = video;
    video.addEventListener(
      "loadedmetadata",
      () => {
        video.currentTime = currentTime;
        if (!paused) video.play().catch(() => {});
      },
      { once: true },
    );
    video.src = url;
  }

  function listen(player) {
    player.on(Hls.Events.ERROR, (_, data) => {
      if (!data.fatal) return;
      if (player !== hls) {
        player.destroy(); // the switch failed; what plays now has the whole film as well
        return;
      }
      const now = performance.now();
      if (data.type === Hls.ErrorTypes.MEDIA_ERROR && now - recovered > 5000) {
        recovered = now;
        player.recoverMediaError();
      } else if (data.type === Hls.ErrorTypes.NETWORK_ERROR && playing === "growing") {
        setTimeout(() => player === hls && player.startLoad(), POLL_MS);
      } else if (data.type === Hls.ErrorTypes.NETWORK_ERROR) {
        giveUp("The connection was lost. Reload the page to go on.");
      } else {
        giveUp("This browser cannot play this video. Try a newer one.");
      }
    });
  }

  // --- the element

  video.addEventListener("playing", () => {
    root.dataset.playing = "";
    if (!stopped) say("");
  });
  video.addEventListener("pause", () => delete root.dataset.playing);
  video.addEventListener("error", () => {
    if (!hls) giveUp("This browser cannot play this video. Try a newer one.");
  });

  const seek = (seconds) => {
    const end = video.seekable.length ? video.seekable.end(video.seekable.length - 1) : 0;
    video.currentTime = Math.min(Math.max(0, video.currentTime + seconds), end);
  };
  const toggle = () => (video.paused ? video.play().catch(() => {}) : video.pause());
  const fullscreen = () =>
    document.fullscreenElement ? document.exitFullscreen() : video.requestFullscreen?.();
  const KEYS = {
    " ": toggle,
    k: toggle,
    ArrowLeft: () => seek(-SEEK_S),
    ArrowRight: () => seek(SEEK_S),
    m: () => (video.muted = !video.muted),
    f: fullscreen,
  };

  // Before the element's own controls, which know some of these keys, and only when they have focus.
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = KEYS[event.key];
      if (!act) return;
      event.preventDefault();
      event.stopPropagation();
      act();
    },
    true,
  );

  if (root.dataset.player === "wanted") poll();
})();
