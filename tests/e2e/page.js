// Plays one URL with one player and records what a viewer would have seen. It judges nothing:
// the tests read `report()` and decide.
//
//   await openMedia(player, url, options)   player: "hlsjs" | "shaka" | "dashjs"
//   select(height)                          force a rung; null gives the choice back to the player
//   pause(), resume(rate)
//   await seek(seconds)                     of a paused video: the frame that then stands there
//   await chooseText(language)              subtitles of this language; their labels, in order
//   texts()                                 what stands on the picture now
//   await chooseSound(language)             sound of this language; the names on offer, in order
//   pitch()                                 the loudest tone that is heard now, in Hz (with listen)
//   await hover(index, seconds)             the small picture for a time, from a WebVTT of pictures
//   report()                                everything recorded so far

const video = document.getElementById("video");
const started = performance.now();
const now = () => performance.now() - started;

const log = {
  errors: [], // every error that the player or the element reported, fatal or not
  events: [], // media element events: {type, at_ms, time, seeking, ahead (seconds of media in store), height}
  frames: [], // some of the shown frames: {at_ms, time (media time of the frame), height, number}
  switches: [], // what the player said about its rungs: {at_ms, time, height}
  clicks: [], // media times at which a click was heard
  first_frame_at: null, // the wall clock, in milliseconds
};
let numbered = false; // do frames carry their number? see readNumber
let player = null;
let opened = null; // its name
let selectRung = () => { throw new Error("no player is open"); };

function note(type) {
  log.events.push({
    type, at_ms: now(), time: video.currentTime, seeking: video.seeking, ahead: ahead(),
    height: video.videoHeight,
  });
}
for (const type of ["playing", "waiting", "stalled", "seeking", "seeked", "ended", "pause", "resize"]) {
  video.addEventListener(type, () => note(type));
}
video.addEventListener("error", () => fail("element", video.error && video.error.message, true));
addEventListener("error", (e) => fail("page", e.message, true));
addEventListener("unhandledrejection", (e) => fail("page", String(e.reason), true));

function fail(source, text, fatal) {
  log.errors.push({ source, text: String(text), fatal, at_ms: now(), time: video.currentTime });
}
function ahead() {
  const { buffered, currentTime } = video;
  for (let i = 0; i < buffered.length; i++) {
    if (buffered.start(i) <= currentTime && currentTime < buffered.end(i)) {
      return buffered.end(i) - currentTime;
    }
  }
  return 0;
}
function switched(height) {
  log.switches.push({ at_ms: now(), time: video.currentTime, height });
}

// The reading half of tests/media/framecode.py: 32 blocks of 8 × 5 on a canvas of 64 × 36, two rows
// of eight bits each followed by its negative, in Gray code. null: not clearly a number.
const canvas = document.createElement("canvas");
[canvas.width, canvas.height] = [64, 36];
const context = canvas.getContext("2d", { willReadFrequently: true });
function readNumber() {
  context.drawImage(video, 0, 0, 64, 36);
  return numberDrawn();
}
function numberDrawn() {
  const pixels = context.getImageData(0, 0, 64, 20).data;
  let code = 0;
  for (const top of [2, 12]) {
    for (let x = 4; x < 64; x += 8) {
      const difference = pixels[4 * (64 * top + x)] - pixels[4 * (64 * (top + 5) + x)];
      if (Math.abs(difference) < 80) return null;
      code = (code << 1) | (difference > 0 ? 1 : 0);
    }
  }
  let number = 0;
  for (; code; code >>= 1) number ^= code;
  return number;
}

function watchFrames() {
  video.requestVideoFrameCallback((_at, meta) => {
    if (log.first_frame_at === null) log.first_frame_at = Date.now();
    const last = log.frames[log.frames.length - 1];
    // Reading every frame would cost more than showing it; ten a second tell as much.
    if (!last || now() - last.at_ms > 95 || last.height !== meta.height) {
      log.frames.push({
        at_ms: now(), time: meta.mediaTime, height: meta.height, number: numbered ? readNumber() : null,
      });
    }
    watchFrames();
  });
}

// Notes the media time at which each click is heard: a short loud sound over a faint one.
let analyser = null;
function listen() {
  const audio = new AudioContext();
  const source = audio.createMediaElementSource(video);
  analyser = audio.createAnalyser();
  analyser.fftSize = 8192;
  analyser.smoothingTimeConstant = 0;
  source.connect(analyser);
  const tap = audio.createScriptProcessor(256, 2, 1);
  let quiet_from = 0;
  tap.onaudioprocess = (e) => {
    const loud = e.inputBuffer.getChannelData(0).some((x) => Math.abs(x) > 0.3);
    if (loud && now() > quiet_from) {
      log.clicks.push(video.currentTime);
      quiet_from = now() + 300;
    }
  };
  source.connect(tap);
  tap.connect(audio.destination);
}

const sources = {
  hlsjs: "/players/hls.js/dist/hls.min.js",
  shaka: "/players/shaka-player/dist/shaka-player.compiled.js",
  dashjs: "/players/dashjs/dist/modern/umd/dash.all.min.js",
};

// Runs code of a page of the docs, with the names that it leaves to its reader.
const follow = ({ code, given }, more = {}) =>
  new Function(...Object.keys({ ...given, ...more }), code)(...Object.values({ ...given, ...more }));

// Each opens a URL, sets selectRung, and returns the heights of the rungs on offer.
const openers = {
  async hlsjs(url, options) {
    const { snippet, ...settings } = options.config;
    player = snippet
      ? follow({ ...snippet, code: `${snippet.code}; return hls;` })
      : new Hls(settings);
    player.on(Hls.Events.ERROR, (_e, d) => {
      // hls.js calls each wait an error; it is judged with the element's own, by what was in store.
      if (d.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR && !d.fatal) note("waiting");
      else fail("hlsjs", `${d.type} ${d.details} ${(d.error && d.error.message) || d.reason || ""}`, d.fatal);
    });
    player.on(Hls.Events.LEVEL_SWITCHED, (_e, d) => switched(player.levels[d.level].height));
    const ready = new Promise((resolve) => player.once(Hls.Events.MANIFEST_PARSED, resolve));
    player.loadSource(url);
    player.attachMedia(video);
    selectRung = (height) => {
      player.nextLevel = height === null ? -1 : player.levels.findIndex((l) => l.height === height);
    };
    await ready;
    return player.levels.map((l) => l.height);
  },
  async shaka(url, options) {
    shaka.polyfill.installAll();
    player = new shaka.Player();
    await player.attach(video);
    const { snippet, ...settings } = options.config;
    player.configure(settings);
    if (snippet) follow(snippet, { player });
    player.addEventListener("error", (e) => fail("shaka", `${e.detail.code} ${e.detail.message}`, true));
    const say = () => {
      const active = player.getVariantTracks().find((t) => t.active);
      if (active) switched(active.height);
    };
    player.addEventListener("adaptation", say);
    player.addEventListener("variantchanged", say);
    selectRung = (height) => {
      player.configure("abr.enabled", height === null);
      // Keeping a second of the old rung makes the change seamless, as a user's choice would be.
      if (height !== null) {
        player.selectVariantTrack(player.getVariantTracks().find((t) => t.height === height), true, 1);
      }
    };
    await player.load(url);
    return player.getVariantTracks().map((t) => t.height);
  },
  async dashjs(url, options) {
    player = dashjs.MediaPlayer().create();
    const names = dashjs.MediaPlayer.events;
    const { snippet, ...settings } = options.config;
    player.updateSettings(settings);
    player.on(names.ERROR, (e) => fail("dashjs", JSON.stringify(e.error), true));
    player.on(names.PLAYBACK_ERROR, (e) => fail("dashjs", JSON.stringify(e.error), true));
    const heights = () => player.getRepresentationsByType("video").map((r) => r.height);
    player.on(names.QUALITY_CHANGE_RENDERED, (e) => {
      if (e.mediaType === "video") switched(e.newRepresentation.height);
    });
    const ready = new Promise((resolve) => player.on(names.STREAM_INITIALIZED, resolve));
    player.initialize(video, url, false);
    if (snippet) follow(snippet, { player });
    selectRung = (height) => {
      player.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: height === null } } } });
      if (height !== null) {
        player.setRepresentationForTypeByIndex("video", heights().indexOf(height), true);
      }
    };
    await ready;
    return heights();
  },
};

const scripts = {};
function script(src) {
  return scripts[src] ??= new Promise((resolve, reject) => {
    const tag = document.createElement("script");
    tag.src = src;
    tag.onload = resolve;
    tag.onerror = () => reject(new Error(`cannot load ${src}`));
    document.head.append(tag);
  });
}

function tooLate(seconds) {
  return new Promise((_resolve, reject) => setTimeout(() => reject(
    new Error(`not ready after ${seconds} s: ${JSON.stringify(log.errors)}`)), 1000 * seconds));
}

// Loads a player's code ahead of time, as a page that is waiting for its video would.
window.prepare = (name) => script(sources[name]);

// Opens *url* and begins to play. options: {config, numbered, listen, rate}
window.openMedia = async (name, url, options) => {
  numbered = options.numbered;
  opened = name;
  video.defaultPlaybackRate = video.playbackRate = options.rate;
  watchFrames();
  await prepare(name);
  const heights = await Promise.race([openers[name](url, options), tooLate(20)]);
  if (options.listen) listen();
  else video.muted = true;
  video.play().catch((e) => fail("play", e.message, true));
  return heights;
};
window.select = (height) => selectRung(height);
window.pause = () => video.pause();
window.resume = (rate) => {
  video.playbackRate = rate;
  return video.play();
};

// Seeks a paused video and reads the picture that then stands there.
window.seek = async (seconds) => {
  const seeked = new Promise((resolve) => video.addEventListener("seeked", resolve, { once: true }));
  const painted = new Promise((resolve) => {
    const look = (_at, meta) => {
      // A frame from before the seek may still be on its way to the screen.
      if (Math.abs(meta.mediaTime - seconds) < 0.5) resolve(meta);
      else video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  });
  video.currentTime = seconds;
  await seeked;
  const meta = await Promise.race([painted, tooLate(10)]);
  return { at_ms: now(), time: meta.mediaTime, height: meta.height, number: readNumber() };
};
const textChoosers = {
  async hlsjs(language) {
    const tracks = player.allSubtitleTracks;
    player.subtitleDisplay = true;
    player.subtitleTrack = tracks.findIndex((track) => track.lang === language);
    return tracks.map((track) => track.name);
  },
  async shaka(language) {
    const tracks = player.getTextTracks();
    player.selectTextTrack(tracks.find((track) => track.language === language));
    await player.setTextVisibility?.(true);
    return tracks.map((track) => track.label);
  },
};
// What Shaka Player shows above its bar: the picture's number, and from when to when it stands there.
let pictures = null;
window.hover = async (index, seconds) => {
  pictures ??= await player.addThumbnailsTrack(new URL(index, location.href).href, "text/vtt");
  const found = await player.getThumbnails(pictures.id, seconds);
  const sheet = new Image();
  sheet.src = found.uris[0];
  await sheet.decode();
  const part = [found.positionX, found.positionY, found.width, found.height];
  const whole = [0, 0, sheet.naturalWidth, sheet.naturalHeight]; // of a file that is no sheet
  context.clearRect(0, 0, 64, 36);
  context.drawImage(sheet, ...(found.sprite ? part : whole), 0, 0, 64, 36);
  return { number: numberDrawn(), start: found.startTime, end: found.startTime + found.duration };
};
window.chooseText = (language) => textChoosers[player instanceof (window.Hls ?? Event) ? "hlsjs" : "shaka"](language);
window.texts = () => Array.from(video.textTracks)
  .filter((track) => track.mode === "showing")
  .flatMap((track) => Array.from(track.activeCues ?? []))
  .map((cue) => cue.text);
const soundChoosers = {
  async hlsjs(language) {
    const tracks = player.audioTracks;
    player.audioTrack = tracks.findIndex((track) => track.lang === language);
    return tracks.map((track) => track.name);
  },
  async shaka(language) {
    const tracks = player.getAudioTracks();
    player.selectAudioTrack(tracks.find((track) => track.language === language));
    return tracks.map((track) => track.label);
  },
  async dashjs(language) {
    const tracks = player.getTracksFor("audio");
    player.setCurrentTrack(tracks.find((track) => track.lang === language));
    return tracks.map((track) => track.labels[0].text);
  },
};
window.chooseSound = (language) => soundChoosers[opened](language);
window.pitch = () => {
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const loudest = bins.reduce((best, level, n) => (level > bins[best] ? n : best), 0);
  return bins[loudest] > -80 ? loudest * analyser.context.sampleRate / analyser.fftSize : 0;
};
window.report = () => {
  const quality = video.getVideoPlaybackQuality();
  const ranges = (r) => Array.from({ length: r.length }, (_, i) => [r.start(i), r.end(i)]);
  return {
    ...log, ended: video.ended, time: video.currentTime, duration: video.duration,
    paused: video.paused, ready: video.readyState, height: video.videoHeight,
    width: video.videoWidth, dropped: quality.droppedVideoFrames, total: quality.totalVideoFrames,
    buffered: ranges(video.buffered), seekable: ranges(video.seekable),
  };
};
